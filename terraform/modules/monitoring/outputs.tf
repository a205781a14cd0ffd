output "dashboard_url" {
  description = "Address of the dashboard."
  value       = "https://${data.aws_region.this.id}.console.aws.amazon.com/cloudwatch/home?region=${data.aws_region.this.id}#dashboards/dashboard/${aws_cloudwatch_dashboard.this.dashboard_name}"
}

output "topic_arn" {
  description = "ARN of the topic for messages, alarms and failed events."
  value       = aws_sns_topic.alarms.arn
}
