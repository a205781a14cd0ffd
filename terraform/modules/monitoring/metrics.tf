# Two metrics for all strategies together. A metric of its own for each strategy would leave CloudWatch's ten free ones with the
# second strategy; what a strategy has to tell, it tells itself. Without a line there is no value, so an idle hour is free.

locals {
  namespace = "ProphetTrader"
  patterns = {
    Digests = "{ $.message = \"digest\" }"           # after the close, each strategy logs one such line
    Unsent  = "{ $.message = \"message not sent\" }" # a channel that did not take a message
  }
  filters = merge([
    for strategy, its in var.strategies : {
      for metric, pattern in local.patterns : "${strategy}/${metric}" => { metric = metric, pattern = pattern, log_group = its.log_group }
    }
  ]...)
}

resource "aws_cloudwatch_log_metric_filter" "this" {
  for_each       = local.filters
  name           = each.value.metric
  log_group_name = each.value.log_group
  pattern        = each.value.pattern

  metric_transformation {
    namespace = local.namespace
    name      = each.value.metric
    value     = "1"
  }
}
