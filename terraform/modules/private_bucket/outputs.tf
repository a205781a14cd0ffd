output "id" {
  description = "Name of the bucket, known to keep versions."
  value       = aws_s3_bucket_versioning.this.bucket
}
