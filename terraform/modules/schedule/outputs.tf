output "rule_name" {
  description = "Name of the rule, by which CloudWatch counts its events."
  value       = aws_cloudwatch_event_rule.this.name
}
