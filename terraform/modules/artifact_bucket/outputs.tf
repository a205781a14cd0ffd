output "arn" {
  description = "ARN of the bucket."
  value       = aws_s3_bucket.this.arn
}

output "name" {
  description = "Name of the bucket, available once the bucket is private and versioned."
  value       = aws_s3_bucket.this.id
  depends_on  = [module.private] # objects stored earlier have no version
}
