# Each run ends with one log line, `run`, whose fields become metrics by strategy. Without a line there is no value, so an
# idle hour is free. A run that was cut off has no such line; the next run's line `interrupted` counts it.

locals {
  namespace = "ProphetTrader"
  run       = "($.message = \"run\") && ($.status != \"ALREADY_RAN\")" # a second delivery of an event is not a run
  metrics = {
    Runs           = { pattern = "{ ${local.run} }", value = "1" }
    Orders         = { pattern = "{ ${local.run} && ($.orders >= 0) }", value = "$.orders" }
    EquityUsd      = { pattern = "{ ${local.run} && ($.equity_usd >= 0) }", value = "$.equity_usd" }
    Halted         = { pattern = "{ ${local.run} && ($.status = \"HALTED\") }", value = "1" }
    OrdersRejected = { pattern = "{ ${local.run} && ($.denials.ORDER_REJECTED > 0) }", value = "$.denials.ORDER_REJECTED" }
    Interrupted    = { pattern = "{ $.message = \"interrupted\" }", value = "1" }
    Unprotected    = { pattern = "{ ${local.run} && ($.unprotected > 0) }", value = "$.unprotected" }
  }
  filters = merge([
    for strategy, its in var.strategies : {
      for metric, filter in local.metrics : "${strategy}/${metric}" => merge(filter, { metric = metric, log_group = its.log_group })
    }
  ]...)
}

resource "aws_cloudwatch_log_metric_filter" "this" {
  for_each       = local.filters
  name           = each.value.metric
  log_group_name = each.value.log_group
  pattern        = each.value.pattern

  metric_transformation {
    namespace  = local.namespace
    name       = each.value.metric
    value      = each.value.value
    dimensions = { strategy = "$.strategy" }
  }
}
