output "arn" {
  description = "ARN of the bucket."
  value       = aws_s3_bucket.this.arn
}

output "name" {
  description = "Name of the bucket, known to have its settings."
  value       = aws_s3_bucket.this.id
  depends_on  = [module.private] # objects put before have no version
}
