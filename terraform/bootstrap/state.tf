# The bucket of Terraform's state. Versioned, and old versions are kept for good: a state is some 100 kB, a thousand
# applies are 100 MB or a fifth of a cent a month, and a lost state is a day's work.

resource "aws_s3_bucket" "state" {
  #checkov:skip=CKV_AWS_18:an access log is a second bucket to pay for and to keep; CloudTrail has who did what
  #checkov:skip=CKV_AWS_144:a state is of no use where the account's region is gone, and it can be made again by import
  #checkov:skip=CKV_AWS_145:a key of one's own costs $1 a month; S3's own encryption is free, and no secret is in the state
  #checkov:skip=CKV2_AWS_61:old versions are tiny, and they are the backup
  #checkov:skip=CKV2_AWS_62:nothing waits for a state to change
  bucket = local.state_bucket

  lifecycle {
    prevent_destroy = true # it holds this configuration's own state, too
  }
}

module "state_bucket" {
  source = "../modules/private_bucket"
  bucket = { id = aws_s3_bucket.state.id, arn = aws_s3_bucket.state.arn }
}
