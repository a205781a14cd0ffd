# The bucket for Terraform's state. It is versioned, and old versions are kept forever: a state takes about 100 kB, so
# a thousand applies take 100 MB and cost a fifth of a cent a month, and a lost state costs a day's work.

resource "aws_s3_bucket" "state" {
  #checkov:skip=CKV_AWS_18:an access log needs a second bucket to pay for and maintain; CloudTrail records who did what
  #checkov:skip=CKV_AWS_144:without the account's region a state is useless, and import can rebuild it
  #checkov:skip=CKV_AWS_145:a customer-managed key costs $1 a month; S3's own encryption is free, and the state contains no secrets
  #checkov:skip=CKV2_AWS_61:old versions are tiny, and they are the backup
  #checkov:skip=CKV2_AWS_62:nothing waits for a state to change
  bucket = local.state_bucket

  lifecycle {
    prevent_destroy = true # it also holds this configuration's own state
  }
}

module "state_bucket" {
  source = "../modules/private_bucket"
  bucket = { id = aws_s3_bucket.state.id, arn = aws_s3_bucket.state.arn }
}
