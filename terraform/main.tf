# The whole system: a bucket, the layer, and for each strategy a function, its schedule and its digest; monitoring for all.

data "aws_caller_identity" "this" {}
data "aws_partition" "this" {}
data "aws_region" "this" {}

module "artifact_bucket" {
  source         = "./modules/artifact_bucket"
  name           = local.bucket_name
  delete_journal = var.delete_journal_of != null
  lock           = var.journal_lock
  retention_days = var.retention_days
}

module "layer" {
  source       = "./modules/layer"
  name         = "${var.project}-layer"
  bucket       = module.artifact_bucket.name
  zip          = local.layer_zip
  python       = var.python
  architecture = var.architecture
}

module "function" {
  source            = "./modules/function"
  for_each          = local.strategies
  name              = each.value.name
  strategy          = each.key
  bucket            = { name = module.artifact_bucket.name, arn = module.artifact_bucket.arn }
  code_zip          = local.function_zip
  layer_arn         = module.layer.arn
  environment       = each.value.environment
  parameters        = each.value.parameters
  halt_parameter    = "${each.value.path}/halt"
  failure_topic_arn = module.monitoring.topic_arn
  runtime           = each.value.runtime
}

module "schedule" {
  source     = "./modules/schedule"
  for_each   = local.strategies
  name       = each.value.name
  expression = each.value.schedule
  enabled    = each.value.enabled
  function = {
    name      = module.function[each.key].name
    alias     = module.function[each.key].alias.name
    alias_arn = module.function[each.key].alias.arn
  }
}

# After the close, 16:15 in New York: in summer that is the first of the two hours, in winter the other. The function ends
# the wrong one before it looks at anything.
module "digest" {
  source     = "./modules/schedule"
  for_each   = local.strategies
  name       = "${each.value.name}_digest" # no strategy has an underscore in its name, so no other rule is called this
  expression = "cron(15 20,21 ? * MON-FRI *)"
  enabled    = each.value.enabled
  task       = "digest"
  function = {
    name      = module.function[each.key].name
    alias     = module.function[each.key].alias.name
    alias_arn = module.function[each.key].alias.arn
  }
}

module "monitoring" {
  source      = "./modules/monitoring"
  project     = var.project
  alarm_email = var.alarm_email
  queries     = local.queries
  strategies = {
    for name, strategy in local.strategies : name => {
      function_name = strategy.name
      log_group     = module.function[name].log_group
      rule_name     = module.schedule[name].rule_name
      enabled       = strategy.enabled
    }
  }
}
