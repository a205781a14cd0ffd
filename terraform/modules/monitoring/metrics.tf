# Each run ends with one log line, `run`, whose fields become metrics by strategy. Without a line there is no value, so an
# idle hour is free. A run that was cut off has no such line; the next run's line `interrupted` counts it.

locals {
  namespace = "ProphetTrader"
  run       = "($.message = \"run\") && ($.status != \"ALREADY_RAN\")" # a second delivery of an event is not a run
  filters_by_metric = {
    Runs      = [{ pattern = "{ ${local.run} }", value = "1" }]
    Healthy   = [{ pattern = "{ ${local.run} && ($.health = \"healthy\") }", value = "1" }]
    Orders    = [{ pattern = "{ ${local.run} && ($.orders >= 0) }", value = "$.orders" }]
    EquityUsd = [{ pattern = "{ ${local.run} && ($.equity_usd >= 0) }", value = "$.equity_usd" }]
    Drawdown  = [{ pattern = "{ ${local.run} && ($.drawdown_fraction >= 0) }", value = "$.drawdown_fraction" }]
    # These have values only when something is wrong.
    Attention = [
      { pattern = "{ ${local.run} && ($.health = \"attention\") }", value = "1" },
      { pattern = "{ ${local.run} && ($.status = \"HALTED\") }", value = "1" },
    ]
    OrderProblems = [
      { pattern = "{ ${local.run} && ($.denials.ORDER_REJECTED > 0) }", value = "$.denials.ORDER_REJECTED" },
      { pattern = "{ ${local.run} && ($.settled > 0) }", value = "$.settled" },
      { pattern = "{ $.message = \"interrupted\" }", value = "1" },
    ]
    Unprotected = [{ pattern = "{ ${local.run} && ($.unprotected > 0) }", value = "$.unprotected" }]
  }
  filters = merge(flatten([
    for strategy, its in var.strategies : [
      for metric, filters in local.filters_by_metric : {
        for index, filter in filters : "${strategy}/${metric}${index == 0 ? "" : "-${index + 1}"}" =>
        merge(filter, { metric = metric, name = "${metric}${index == 0 ? "" : "-${index + 1}"}", log_group = its.log_group })
      }
    ]
  ])...)
}

resource "aws_cloudwatch_log_metric_filter" "this" {
  for_each       = local.filters
  name           = each.value.name
  log_group_name = each.value.log_group
  pattern        = each.value.pattern

  metric_transformation {
    namespace  = local.namespace
    name       = each.value.metric
    value      = each.value.value
    dimensions = { strategy = "$.strategy" }
  }
}
