# Eight alarms per strategy; the README says what to do about each.

locals {
  alarms = merge([
    for strategy, its in var.strategies : {
      for kind, alarm in {
        errors = {
          description = "A run of ${strategy} ended with an error. See: make logs QUERY=errors STRATEGY=${strategy}"
          metric      = { namespace = "AWS/Lambda", name = "Errors", dimensions = { FunctionName = its.function_name }, stat = "Sum" }
          threshold   = 1
        }
        throttles = {
          description = "AWS had no capacity to run ${strategy}: the account's concurrency is used up"
          metric      = { namespace = "AWS/Lambda", name = "Throttles", dimensions = { FunctionName = its.function_name }, stat = "Sum" }
          threshold   = 1
        }
        duration = {
          description = "A run of ${strategy} took more than 80 % of its ${its.timeout_s} s. See: make logs QUERY=runtimes STRATEGY=${strategy}"
          metric      = { namespace = "AWS/Lambda", name = "Duration", dimensions = { FunctionName = its.function_name }, stat = "Maximum" }
          threshold   = its.timeout_s * 800 # milliseconds
        }
        halted = {
          description = "${strategy} did not trade because its halt switch is on or cannot be read. When you are ready: make resume STRATEGY=${strategy}"
          metric      = { namespace = local.namespace, name = "Halted", dimensions = { strategy = strategy }, stat = "Sum" }
          threshold   = 1
        }
        order-rejected = {
          description = "Alpaca refused an order of ${strategy}. See: make logs QUERY=refusals STRATEGY=${strategy}"
          metric      = { namespace = local.namespace, name = "OrdersRejected", dimensions = { strategy = strategy }, stat = "Sum" }
          threshold   = 1
        }
        interrupted = {
          description = "A run of ${strategy} was cut off between its orders, and the next run recorded the orders that it had placed. See: make logs QUERY=errors STRATEGY=${strategy}"
          metric      = { namespace = local.namespace, name = "Interrupted", dimensions = { strategy = strategy }, stat = "Sum" }
          threshold   = 1
        }
        unprotected = {
          description = "${strategy} holds stock without a stop loss. See: make logs QUERY=errors STRATEGY=${strategy}"
          metric      = { namespace = local.namespace, name = "Unprotected", dimensions = { strategy = strategy }, stat = "Maximum" }
          threshold   = 1
        }
      } : "${strategy}-${kind}" => alarm
    }
  ]...)
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each            = local.alarms
  alarm_name          = "${var.project}-${each.key}"
  alarm_description   = each.value.description
  namespace           = each.value.metric.namespace
  metric_name         = each.value.metric.name
  dimensions          = each.value.metric.dimensions
  statistic           = each.value.metric.stat
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = each.value.threshold
  treat_missing_data  = "notBreaching" # outside the schedule there is nothing to measure
  alarm_actions       = [aws_sns_topic.alarms.arn]
}

# A run was started but never reported: it was throttled, late or killed, or it failed before it could report. The number of
# runs under way is the sum, minute by minute, of the rule's count minus the runs' reports. If runs are under way for longer
# than a run can take, one is missing. When nothing is scheduled, the alarm is quiet.
resource "aws_cloudwatch_metric_alarm" "missing_run" {
  for_each            = var.strategies
  alarm_name          = "${var.project}-${each.key}-missing-run"
  alarm_description   = "A scheduled run of ${each.key} did not report. See: make logs QUERY=errors STRATEGY=${each.key}, and the positions at Alpaca"
  datapoints_to_alarm = ceil(each.value.timeout_s / 60) + 7      # minutes: more than two long runs within the evaluation periods
  evaluation_periods  = 2 * ceil(each.value.timeout_s / 60) + 10 # minutes: enough to include the start
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]

  metric_query {
    id          = "missing"
    label       = "runs that have not reported yet"
    expression  = "RUNNING_SUM(FILL(scheduled, 0) - FILL(reported, 0))"
    return_data = true
  }

  metric_query {
    id = "scheduled"
    metric {
      namespace   = "AWS/Events"
      metric_name = "TriggeredRules"
      dimensions  = { RuleName = each.value.rule_name }
      stat        = "Sum"
      period      = 60
    }
  }

  metric_query {
    id = "reported"
    metric {
      namespace   = local.namespace
      metric_name = "Runs"
      dimensions  = { strategy = each.key }
      stat        = "Sum"
      period      = 60
    }
  }
}
