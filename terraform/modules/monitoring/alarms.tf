# At most eight alarms per strategy, and each description says what to do. The README says what rings for what, and when.

locals {
  alarms = merge([
    for strategy, its in var.strategies : {
      for kind, alarm in {
        errors = {
          description = "A run of ${strategy} ended with an error, was killed, or ran out of time. See: make logs QUERY=errors STRATEGY=${strategy}, then make reconcile STRATEGY=${strategy}"
          metric      = { namespace = "AWS/Lambda", name = "Errors", dimensions = { FunctionName = its.function_name }, stat = "Sum" }
          threshold   = 1
        }
        duration = {
          description = "A run of ${strategy} took more than 80 % of its ${its.timeout_s} s. See: make logs QUERY=runtimes STRATEGY=${strategy}; then raise timeout_s or memory_mb"
          metric      = { namespace = "AWS/Lambda", name = "Duration", dimensions = { FunctionName = its.function_name }, stat = "Maximum" }
          threshold   = its.timeout_s * 800 # milliseconds
        }
        attention = {
          description = "${strategy} cannot do its work and needs you: its account is blocked, prices or forecasts are missing, it runs out of time, or its halt switch is on. See: make logs QUERY=runs STRATEGY=${strategy}, whose status and detail say what to do; after a halt, make resume STRATEGY=${strategy}"
          metric      = { namespace = local.namespace, name = "Attention", dimensions = { strategy = strategy }, stat = "Sum" }
          threshold   = can(tonumber(local.fields[strategy][0])) ? 1 : 2 # runs in an hour: a single bad one of several is made good by the next
        }
        order-problems = {
          description = "An order of ${strategy} was refused, ended otherwise than it was recorded, or was placed by a run that was cut off. See: make logs QUERY=settled STRATEGY=${strategy}, make logs QUERY=refusals STRATEGY=${strategy}, then make reconcile STRATEGY=${strategy}"
          metric      = { namespace = local.namespace, name = "OrderProblems", dimensions = { strategy = strategy }, stat = "Sum" }
          threshold   = 1
        }
        unprotected = {
          description = "${strategy} holds stock without a working stop loss. See: make logs QUERY=errors STRATEGY=${strategy}, which names it; place a stop at Alpaca, or sell it"
          metric      = { namespace = local.namespace, name = "Unprotected", dimensions = { strategy = strategy }, stat = "Maximum" }
          threshold   = 1
        }
        drawdown = {
          description = "The equity of ${strategy} is ${format("%g", 100 * its.drawdown_fraction)} % or more below its highest. See: make logs QUERY=equity STRATEGY=${strategy}; to stop it, make halt STRATEGY=${strategy}"
          metric      = { namespace = local.namespace, name = "Drawdown", dimensions = { strategy = strategy }, stat = "Maximum" }
          threshold   = its.drawdown_fraction
          period_s    = 86400 # so that one fall is told once, and not each morning
        }
      } : "${strategy}-${kind}" => merge({ period_s = 3600 }, alarm)
    }
  ]...)
}

# An alarm looks back over an hour, so that what each run repeats is told once, and it rings within a minute or two.
resource "aws_cloudwatch_metric_alarm" "this" {
  for_each            = local.alarms
  alarm_name          = "${var.project}-${each.key}"
  alarm_description   = each.value.description
  namespace           = each.value.metric.namespace
  metric_name         = each.value.metric.name
  dimensions          = each.value.metric.dimensions
  statistic           = each.value.metric.stat
  period              = each.value.period_s
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
  alarm_description   = "A scheduled run of ${each.key} did not report: it was throttled, late or killed, or its log is not read. See: make logs QUERY=errors STRATEGY=${each.key}, and the positions at Alpaca"
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

# The day on which a strategy's alarm `silent` was made: what it did not do before that is no silence.
resource "terraform_data" "watched_since" {
  for_each = local.silence
  input    = formatdate("YYYYMMDD", plantimestamp())

  lifecycle {
    ignore_changes = [input]
  }
}

# A strategy has not done its work for some sessions, whatever the reason, also if nothing runs any more. Each hour of a
# weekday in which there was no healthy run, and none after it up to now, is one data point in alarm. A sum minus its running
# sum is what came later; it stays the same if CloudWatch reads further back than asked. Weekends do not count, a holiday
# counts as a session. Without any data the alarm rings, too.
resource "aws_cloudwatch_metric_alarm" "silent" {
  for_each            = local.silence
  alarm_name          = "${var.project}-${each.key}-silent"
  alarm_description   = each.value.description
  datapoints_to_alarm = each.value.datapoints
  evaluation_periods  = 168 # hours: seven days, the longest that CloudWatch allows
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  treat_missing_data  = "breaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]

  metric_query {
    id          = "silent"
    label       = "runs in this hour or later"
    expression  = "IF(${each.value.hours}(10000 * YEAR(runs) + 100 * MONTH(runs) + DATE(runs) > ${terraform_data.watched_since[each.key].output}), SUM(filled) - RUNNING_SUM(filled) + filled, 1)"
    return_data = true
  }

  metric_query {
    id         = "filled"
    label      = "runs"
    expression = "FILL(runs, 0)"
  }

  metric_query {
    id = "runs"
    metric {
      namespace   = local.namespace
      metric_name = each.value.metric
      dimensions  = { strategy = each.key }
      stat        = "Sum"
      period      = 3600
    }
  }
}
