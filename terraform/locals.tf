# The modules' inputs, derived from the variables.

locals {
  account      = data.aws_caller_identity.this.account_id
  region       = data.aws_region.this.id # its name; the attribute of that name is deprecated in the provider's version 6
  bucket_name  = coalesce(var.bucket_name, "${var.project}-${local.account}-${local.region}")
  state_bucket = "${var.project}-state-${local.account}-${local.region}" # made by bootstrap
  dist         = "${path.module}/../layer/dist"
  layer_zip    = coalesce(var.layer_zip, "${local.dist}/prophet-layer-python${var.python}-${var.architecture}.zip")
  function_zip = coalesce(var.function_zip, "${local.dist}/function.zip")
  # As the module monitoring names it: the functions' variables must be known when a plan is checked.
  topic_arn = "arn:${data.aws_partition.this.partition}:sns:${local.region}:${local.account}:${var.project}-alarms"
  # The strategies whose digests a strategy looks for.
  others = { for name in keys(var.strategies) : name => [for other, its in var.strategies : other if its.enabled && other != name] }
  queries = {
    for file in fileset("${path.module}/queries", "*.cwli") :
    trimsuffix(file, ".cwli") => trimspace(file("${path.module}/queries/${file}"))
  }

  strategies = {
    for name, its in var.strategies : name => {
      name    = "${var.project}-${name}"
      path    = "/${var.project}/${name}"
      enabled = its.enabled
      schedule = its.daily_at == null ? its.schedule : format(
        "cron(%d %d,%d ? * MON-FRI *)", # one of the hours is that time in New York in summer, the other in winter
        tonumber(split(":", its.daily_at)[1]), tonumber(split(":", its.daily_at)[0]) + 4, tonumber(split(":", its.daily_at)[0]) + 5
      )
      environment = merge(
        { PRICE_SOURCES = "yahoo,alpaca" },
        its.settings,
        its.daily_at == null ? {} : { DAILY_AT = its.daily_at },
        { BROKER = "alpaca", JOURNAL = "s3://${local.bucket_name}", MODE = its.mode, STRATEGY = name },
        { MESSAGE_TOPIC = local.topic_arn, SILENT_SESSIONS = tostring(local.silent_sessions[name]) },
        # Without it, the function tells a fall of the equity where it stops buying, or else at 20 %.
        its.drawdown_alarm_fraction == null ? {} : { DRAWDOWN_MESSAGE_FRACTION = format("%g", its.drawdown_alarm_fraction) },
        length(local.others[name]) == 0 ? {} : { WATCH = join(",", local.others[name]) },
      )
      parameters = merge({ for key in concat(local.keys, local.addresses) : key => "/${var.project}/${name}/${lower(key)}" }, its.parameters)
      runtime = {
        python               = var.python
        architecture         = var.architecture
        memory_mb            = its.memory_mb
        timeout_s            = its.timeout_s
        log_days             = var.retention_days
        tracing              = its.tracing
        reserved_concurrency = its.reserved_concurrency
        permissions_boundary = local.permissions_boundary
      }
    }
  }

  # The boundary set as a variable, or the one that bootstrap stored in SSM: an ARN, not a secret.
  permissions_boundary = var.permissions_boundary != null ? var.permissions_boundary : one(nonsensitive(data.aws_ssm_parameters_by_path.bootstrap.values))

  # Every setting with its allowed values, generated from the function's own settings: make terraform-files.
  allowed = jsondecode(file("${path.module}/settings.json"))
  bounds = { # the allowed numbers in words
    for name, its in local.allowed : name => join(" ", [
      can(its.whole) ? "a whole number" : "a number", can(its.min) ? "from ${its.min}" : "above ${its.above}", can(its.max) ? "to ${its.max}" : "and below ${its.below}"
    ]) if can(its.max) || can(its.below)
  }

  # Alpaca's key id and secret key: the strategy's own SSM parameters, written by `make secrets`.
  keys = ["ALPACAUSER", "ALPACAPW"]
  # Where messages go, apart from the topic: a secret, too, but its parameter need not exist.
  addresses = ["MESSAGE_URL"]
  # Set only by this configuration, so that two strategies share nothing and nothing contradicts the role's permissions.
  reserved = [
    "BROKER", "DAILY_AT", "DRAWDOWN_MESSAGE_FRACTION", "HALT_PARAMETER", "JOURNAL", "MESSAGE_TOPIC", "MODE", "SILENT_SESSIONS", "STRATEGY", "WATCH"
  ]
  # Retention periods that CloudWatch Logs offers, in days.
  log_days = [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653]
}
