# Names and ARNs, as in terraform/.

data "aws_caller_identity" "this" {}
data "aws_partition" "this" {}
data "aws_region" "this" {}

locals {
  account   = data.aws_caller_identity.this.account_id
  region    = data.aws_region.this.id
  partition = data.aws_partition.this.partition

  state_bucket    = "${var.project}-state-${local.account}-${local.region}"
  artifact_bucket = coalesce(var.artifact_bucket, "${var.project}-${local.account}-${local.region}")

  arn = { for service in ["events", "lambda", "logs", "sns", "ssm", "cloudwatch"] :
    service => "arn:${local.partition}:${service}:${local.region}:${local.account}"
  }
  iam           = "arn:${local.partition}:iam::${local.account}"
  artifacts_arn = "arn:${local.partition}:s3:::${local.artifact_bucket}"
  boundary_arn  = "${local.iam}:policy/${var.project}-boundary"
}
