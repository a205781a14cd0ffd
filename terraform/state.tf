# Stops a plan that does not know what is deployed: with the wrong state it would create everything a second time.

data "aws_ssm_parameters_by_path" "bootstrap" { # empty if bootstrap has not run
  path = "/${var.project}/_bootstrap"

  lifecycle {
    postcondition {
      condition     = length(self.names) == 0 || fileexists("${path.root}/backend.tf")
      error_message = <<-TEXT
        make bootstrap has run in account ${local.account}, region ${local.region}: the state belongs in the bucket ${local.state_bucket}, but this folder would use a local one. In the folder terraform:
          cp backend.tf.example backend.tf
          terraform init -backend-config=bucket=${local.state_bucket}
        If this folder has a state of its own, Terraform then asks whether to copy it into the bucket.
      TEXT
    }
  }
}

data "aws_ssm_parameters_by_path" "installation" { # empty if nothing is deployed, or if its state is in the bucket
  path = "/${var.project}/_installation"
}

# What was deployed when this state began: nothing, or the plan stops.
resource "terraform_data" "installation" {
  input = join(" ", data.aws_ssm_parameters_by_path.installation.names)

  lifecycle {
    ignore_changes = [input]

    postcondition {
      condition     = self.input == ""
      error_message = <<-TEXT
        ${var.project} is deployed in account ${local.account}, region ${local.region}, but Terraform's state is not here: it was deployed from another folder or computer, which has the state in terraform/terraform.tfstate. Plan there; or run make bootstrap and make plan there, which move the state into a bucket that this folder can use too. For a second installation, set the variable project.
        If that state is lost: aws ssm delete-parameter --name ${self.input}
      TEXT
    }
  }
}

# Tells other folders and computers that a local state has everything. A state in the bucket needs no such sign.
resource "aws_ssm_parameter" "installation" {
  #checkov:skip=CKV2_AWS_34:not a secret

  count          = length(data.aws_ssm_parameters_by_path.bootstrap.names) == 0 ? 1 : 0
  name           = "/${var.project}/_installation/local-state"
  description    = "Terraform's state of ${var.project} is local, in the folder from which it was deployed"
  type           = "String"
  insecure_value = terraform_data.installation.id
}
