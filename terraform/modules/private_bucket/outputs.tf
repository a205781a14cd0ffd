output "id" {
  description = "Name of the bucket, available once versioning is on."
  value       = aws_s3_bucket_versioning.this.bucket
}
