terraform {
  required_version = "~> 1.11" # the tested version; it has native locking of the state in S3
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100.0, < 7.0.0" # tested with 5.100.0, which .terraform.lock.hcl selects
    }
  }
}

# Account and region come from the shell: AWS_PROFILE, AWS_REGION.
provider "aws" {
  default_tags {
    tags = { project = var.project }
  }
}
