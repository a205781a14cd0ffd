# One private bucket: layer/ and function/ hold the zips, runs/ and universe/ the journal.

resource "aws_s3_bucket" "this" {
  #checkov:skip=CKV_AWS_18:an access log is a second bucket to pay for and to keep; who reads a journal of paper orders is not worth it
  #checkov:skip=CKV_AWS_144:the zips are built again by one command, and the broker's books are the record that counts
  #checkov:skip=CKV_AWS_145:a key of one's own costs $1 a month; S3's own encryption is free
  #checkov:skip=CKV2_AWS_62:nothing waits for objects to appear

  bucket = var.name # force_destroy stays off: only `make destroy`, which asks, empties it
}

module "private" {
  source = "../private_bucket"
  bucket = { id = aws_s3_bucket.this.id, arn = aws_s3_bucket.this.arn }
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  dynamic "rule" {
    for_each = toset(["runs/", "universe/"])
    content {
      id     = "journal-${trimsuffix(rule.value, "/")}"
      status = "Enabled"
      filter {
        prefix = rule.value
      }
      expiration {
        days = var.retention_days
      }
    }
  }

  rule {
    id     = "replaced"
    status = "Enabled"
    filter {}
    noncurrent_version_expiration {
      noncurrent_days = 30
    }
    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }

  depends_on = [module.private]
}
