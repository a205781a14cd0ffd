output "alias" {
  description = "The alias live: name and ARN."
  value       = { name = aws_lambda_alias.live.name, arn = aws_lambda_alias.live.arn }
}

output "environment" {
  description = "The function's variables, with references instead of secrets."
  value       = merge(var.environment, local.references, { HALT_PARAMETER = var.halt_parameter })
}

output "log_group" {
  description = "Name of the log group."
  value       = aws_cloudwatch_log_group.this.name
}

output "name" {
  description = "Name of the function."
  value       = aws_lambda_function.this.function_name
}

output "version" {
  description = "The newest published version."
  value       = aws_lambda_function.this.version
}
