# One private bucket: layer/ and function/ contain the zips, runs/, universe/, equity/, accounts/ and digests/ the journal.

resource "aws_s3_bucket" "this" {
  #checkov:skip=CKV_AWS_18:an access log needs a second bucket to pay for and maintain; who reads the journal is not worth that
  #checkov:skip=CKV_AWS_144:one command rebuilds the zips, and the broker's books are authoritative
  #checkov:skip=CKV_AWS_145:a customer-managed key costs $1 a month; S3's own encryption is free
  #checkov:skip=CKV2_AWS_62:nothing waits for objects to appear

  bucket        = var.name
  force_destroy = var.delete_journal
}

module "private" {
  source = "../private_bucket"
  bucket = { id = aws_s3_bucket.this.id, arn = aws_s3_bucket.this.arn }
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  dynamic "rule" {
    for_each = toset(["runs/", "universe/", "digests/"]) # equity/ and accounts/ stay: a small file each
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

# Only with the lock: it can be turned on for a bucket that exists, and never off again.
resource "aws_s3_bucket_object_lock_configuration" "this" {
  count  = var.lock == null ? 0 : 1
  bucket = aws_s3_bucket.this.id
  rule {
    default_retention {
      mode = var.lock.mode
      days = var.lock.days
    }
  }
  depends_on = [module.private] # S3 locks versions
}
