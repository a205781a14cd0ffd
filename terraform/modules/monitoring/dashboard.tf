# One dashboard for all strategies: equity, runs, orders, durations, denials and alarms.

locals {
  names   = sort(keys(var.strategies))
  sources = join(" | ", [for name in local.names : "SOURCE '${var.strategies[name].log_group}'"])
  codes = [
    "NO_PRICE_DATA", "STALE_PRICE", "FORECAST_FAILED", "OUT_OF_TIME", "OPEN_ORDER_PENDING", "QUANTITY_BELOW_ONE",
    "POSITION_CAP", "ORDER_CAP", "BUYING_POWER_EXCEEDED", "DAILY_LOSS_STOP", "DRAWDOWN_STOP", "PAUSED", "ORDER_REJECTED",
    "NOT_FILLED", "UNPROTECTED", "EQUITY_UNKNOWN", "BETWEEN_DECISIONS"
  ]
  widgets = [
    {
      title   = "Equity (USD)"
      metrics = [for name in local.names : [local.namespace, "EquityUsd", "strategy", name, { label = name, stat = "Maximum" }]]
    },
    {
      title = "Runs: scheduled and reported"
      metrics = flatten([for name in local.names : [
        [["AWS/Events", "TriggeredRules", "RuleName", var.strategies[name].rule_name, { label = "${name} scheduled", stat = "Sum" }]],
        [[local.namespace, "Runs", "strategy", name, { label = "${name} reported", stat = "Sum" }]],
      ]])
    },
    {
      title   = "Orders"
      metrics = [for name in local.names : [local.namespace, "Orders", "strategy", name, { label = name, stat = "Sum" }]]
    },
    {
      title   = "Duration (ms, longest)"
      metrics = [for name in local.names : ["AWS/Lambda", "Duration", "FunctionName", var.strategies[name].function_name, { label = name, stat = "Maximum" }]]
    },
  ]
}

resource "aws_cloudwatch_dashboard" "this" {
  dashboard_name = var.project
  dashboard_body = jsonencode({
    widgets = concat(
      [for index, widget in local.widgets : {
        type   = "metric"
        x      = 12 * (index % 2)
        y      = 6 * floor(index / 2)
        width  = 12
        height = 6
        properties = {
          title   = widget.title
          region  = data.aws_region.this.id
          view    = "timeSeries"
          period  = 900
          metrics = widget.metrics
        }
      }],
      [{
        type   = "log"
        x      = 0
        y      = 12
        width  = 12
        height = 6
        properties = {
          title  = "Denials per day, by code"
          region = data.aws_region.this.id
          view   = "bar"
          query  = "${local.sources} | filter message = \"run\" | stats ${join(", ", [for code in local.codes : "sum(denials.${code}) as ${code}"])} by bin(1d)"
        }
        }, {
        type   = "alarm"
        x      = 12
        y      = 12
        width  = 12
        height = 6
        properties = {
          title = "Alarms"
          alarms = concat(
            values(aws_cloudwatch_metric_alarm.this)[*].arn,
            values(aws_cloudwatch_metric_alarm.missing_run)[*].arn,
            values(aws_cloudwatch_metric_alarm.silent)[*].arn,
          )
        }
      }]
    )
  })
}
