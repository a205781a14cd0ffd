# Once per account and region, before everything else: `make bootstrap`. It writes backend.tf beside this file (not in
# git: it names your account), so that this configuration's own state lies in the bucket that it makes.

terraform {
  required_version = "~> 1.11" # native locking of the state in S3, and what it was tested with
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100.0" # what it was tested with
    }
  }
}

# Account and region are those of the shell: AWS_PROFILE, AWS_REGION.
provider "aws" {
  default_tags {
    tags = { project = var.project }
  }
}
