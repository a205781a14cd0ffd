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

resource "aws_s3_bucket_ownership_controls" "state" {
  bucket = aws_s3_bucket.state.id
  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_public_access_block" "state" {
  bucket                  = aws_s3_bucket.state.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_server_side_encryption_configuration" "state" {
  bucket = aws_s3_bucket.state.id
  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_versioning" "state" {
  bucket = aws_s3_bucket.state.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_policy" "state" {
  bucket = aws_s3_bucket.state.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "TlsOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [aws_s3_bucket.state.arn, "${aws_s3_bucket.state.arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })
  depends_on = [aws_s3_bucket_public_access_block.state]
}
