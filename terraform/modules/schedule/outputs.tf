output "rule_name" {
  description = "Name of the rule, as CloudWatch counts it."
  value       = aws_cloudwatch_event_rule.this.name
}
