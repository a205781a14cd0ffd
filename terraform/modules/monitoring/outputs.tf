output "dashboard_url" {
  description = "Where the dashboard is to be seen."
  value       = "https://${data.aws_region.this.name}.console.aws.amazon.com/cloudwatch/home?region=${data.aws_region.this.name}#dashboards/dashboard/${aws_cloudwatch_dashboard.this.dashboard_name}"
}

output "topic_arn" {
  description = "ARN of the topic that alarms and failed events are sent to."
  value       = aws_sns_topic.alarms.arn
}
