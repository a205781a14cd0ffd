# One dashboard for all strategies. Curves and sums come from the logs by query, and from metrics that AWS has anyway: a custom
# metric costs money, and more than fifty metrics on a dashboard do, too.

locals {
  names   = sort(keys(var.strategies))
  sources = join(" | ", [for name in local.names : "SOURCE '${var.strategies[name].log_group}'"])
  # A line has its values once more below the strategy's name, because a chart draws a curve for each column.
  columns = { for field in ["equities", "returns", "drawdowns"] : field => join(", ", [for name in local.names : "max(${field}.`${name}`) as `${name}`"]) }
  codes = [
    "NO_PRICE_DATA", "STALE_PRICE", "FORECAST_FAILED", "OUT_OF_TIME", "OPEN_ORDER_PENDING", "QUANTITY_BELOW_ONE",
    "POSITION_CAP", "ORDER_CAP", "BUYING_POWER_EXCEEDED", "DAILY_LOSS_STOP", "DRAWDOWN_STOP", "PAUSED", "ORDER_REJECTED",
    "NOT_FILLED", "UNPROTECTED", "EQUITY_UNKNOWN", "BETWEEN_DECISIONS"
  ]
  queries = [ # of the lines `run` of each run and `digest` of each day
    {
      title = "Equity (USD)"
      view  = "timeSeries"
      query = "filter message = \"run\" | stats ${local.columns.equities} by bin(1h)"
    },
    {
      title = "Return of the day, and the benchmark's"
      view  = "timeSeries"
      query = "filter message = \"digest\" | stats ${local.columns.returns}, max(benchmark_fraction) as benchmark by bin(1d)"
    },
    {
      title = "Drawdown: how far the equity is below its highest"
      view  = "timeSeries"
      query = "filter message = \"digest\" | stats ${local.columns.drawdowns} by bin(1d)"
    },
    {
      title = "Runs and orders"
      view  = "table"
      query = "filter message = \"run\" | stats count(*) as runs, sum(orders) as orders, sum(settled) as ended_otherwise, max(unprotected) as unprotected, max(duration_s) as longest_s by strategy, status | sort strategy asc, runs desc"
    },
    {
      title = "Denials per day, by code"
      view  = "bar"
      query = "filter message = \"run\" | stats ${join(", ", [for code in local.codes : "sum(denials.${code}) as ${code}"])} by bin(1d)"
    },
  ]
  metrics = [
    {
      title   = "Scheduled runs"
      stat    = "Sum"
      metrics = [for name in local.names : ["AWS/Events", "TriggeredRules", "RuleName", var.strategies[name].rule_name, { label = name }]]
    },
    {
      title   = "Errors and timeouts"
      stat    = "Sum"
      metrics = [for name in local.names : ["AWS/Lambda", "Errors", "FunctionName", var.strategies[name].function_name, { label = name }]]
    },
    {
      title   = "Duration (ms, longest)"
      stat    = "Maximum"
      metrics = [for name in local.names : ["AWS/Lambda", "Duration", "FunctionName", var.strategies[name].function_name, { label = name }]]
    },
  ]
  widgets = concat(
    [for each in local.queries : {
      type       = "log"
      properties = { title = each.title, region = data.aws_region.this.id, view = each.view, query = "${local.sources} | ${each.query}" }
    }],
    [for each in local.metrics : {
      type = "metric"
      properties = {
        title   = each.title
        region  = data.aws_region.this.id
        view    = "timeSeries"
        period  = 900
        stat    = each.stat
        metrics = each.metrics
      }
    }],
    [{
      type = "alarm"
      properties = {
        title  = "Alarms"
        alarms = concat([aws_cloudwatch_metric_alarm.unsent.arn], aws_cloudwatch_metric_alarm.silent[*].arn)
      }
    }],
  )
}

resource "aws_cloudwatch_dashboard" "this" {
  dashboard_name = var.project
  dashboard_body = jsonencode({
    widgets = [for index, widget in local.widgets : merge(widget, { x = 12 * (index % 2), y = 6 * floor(index / 2), width = 12, height = 6 })]
  })
}
