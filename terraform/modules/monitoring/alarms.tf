# Two alarms for what no strategy can tell itself. Each description says what to do; the README says what is told how, and when.

# A message could not be sent. It looks back over an hour, so that what each run repeats is told once.
resource "aws_cloudwatch_metric_alarm" "unsent" {
  alarm_name          = "${var.project}-unsent"
  alarm_description   = "A message of a strategy could not be sent. See: make logs QUERY=errors, which names the strategy, the channel and the problem; then correct the address, and make test-message"
  namespace           = local.namespace
  metric_name         = "Unsent"
  statistic           = "Sum"
  period              = 3600
  evaluation_periods  = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
}

locals {
  is_watched = anytrue([for its in values(var.strategies) : its.enabled]) # with every strategy off, silence is as it should be
}

# The day on which the alarm `silent` was made: what did not come before that is no silence.
resource "terraform_data" "watched_since" {
  count = local.is_watched ? 1 : 0
  input = formatdate("YYYYMMDD", plantimestamp())

  lifecycle {
    ignore_changes = [input]
  }
}

# No strategy has sent a digest for two sessions, whatever the reason, also if nothing runs any more. Each hour of a weekday
# in which there was no digest, and none after it up to now, is one data point in alarm. A sum minus its running sum is what
# came later; it stays the same if CloudWatch reads further back than asked. Weekends do not count, a holiday counts as a
# session. Without any data the alarm rings, too.
resource "aws_cloudwatch_metric_alarm" "silent" {
  count               = local.is_watched ? 1 : 0
  alarm_name          = "${var.project}-silent"
  alarm_description   = "No strategy has sent a digest for two sessions: the rules are off, the functions are gone, their logs are not read, or AWS has stopped the account. See: make logs QUERY=errors, and the rules ${join(", ", [for its in values(var.strategies) : its.rule_name if its.enabled])} in EventBridge, then make deploy. Check the positions at Alpaca"
  datapoints_to_alarm = 50  # hours: two sessions, and two more, as a digest may be seen in the hour after the usual one
  evaluation_periods  = 168 # hours: seven days, the longest that CloudWatch allows
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  treat_missing_data  = "breaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]

  metric_query {
    id          = "silent"
    label       = "digests in this hour or later"
    expression  = "IF((DAY(digests) < 6) AND (10000 * YEAR(digests) + 100 * MONTH(digests) + DATE(digests) > ${terraform_data.watched_since[0].output}), SUM(filled) - RUNNING_SUM(filled) + filled, 1)"
    return_data = true
  }

  metric_query {
    id         = "filled"
    label      = "digests"
    expression = "FILL(digests, 0)"
  }

  metric_query {
    id = "digests"
    metric {
      namespace   = local.namespace
      metric_name = "Digests"
      stat        = "Sum"
      period      = 3600
    }
  }
}
