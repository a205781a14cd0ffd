# No variable has to be set; put your own choices into a terraform.tfvars next to this file.

variable "alarm_email" {
  description = "E-mail address for messages and alarms; null for none. AWS first sends it a confirmation request."
  type        = string
  default     = null
}

variable "architecture" {
  description = "Processor architecture of the functions, x86_64 or arm64; the layer must be built for it: make layer ARCH=arm64."
  type        = string
  default     = "x86_64"
}

variable "bucket_name" {
  description = "Name of the bucket for zips and journal; null for PROJECT-ACCOUNT-REGION. Needed only if that name is taken."
  type        = string
  default     = null
}

variable "delete_journal_of" {
  description = "Name of the bucket that terraform destroy may delete with the journal in it; null for none. Apply it first, then destroy."
  type        = string
  default     = null

  validation {
    condition     = var.delete_journal_of == null || var.delete_journal_of == local.bucket_name
    error_message = "delete_journal_of = ${var.delete_journal_of == null ? "null" : var.delete_journal_of}: must be null, or ${local.bucket_name}, the bucket whose journal terraform destroy shall delete."
  }
}

variable "function_zip" {
  description = "Path of the function's zip; null for the one that `make package` writes."
  type        = string
  default     = null
}

variable "journal_lock" {
  description = "S3 Object Lock for the bucket, such as { days = 400 }: until then no version of a record can be deleted; null for none. It cannot be undone, and costs storage: docs/decisions/chain.md."
  type = object({
    days = number
    mode = optional(string, "GOVERNANCE")
  })
  default = null
}

variable "layer_zip" {
  description = "Path of the layer's zip; null for the one that `make layer` writes."
  type        = string
  default     = null
}

variable "live_strategies" {
  description = "Names of the strategies that may trade real money. mode = \"live\" alone is not enough."
  type        = set(string)
  default     = []
}

variable "permissions_boundary" {
  description = "ARN of the policy that bounds the functions' roles; null for the one that bootstrap created, if any."
  type        = string
  default     = null
}

variable "project" {
  description = "Prefix of all names; a different one makes a second installation in the same account."
  type        = string
  default     = "prophet-trader"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,19}$", var.project)) && !can(regex("^(aws|ssm)", var.project))
    error_message = "project = ${var.project}: must be 2 to 20 lower-case letters, digits and hyphens, begin with a letter, and not begin with aws or ssm."
  }
}

variable "python" {
  description = "Python version of the functions, 3.13 or 3.14; the layer must be built for it: make layer PYTHON=3.14."
  type        = string
  default     = "3.13"
}

variable "retention_days" {
  description = "Days to keep logs and records of runs; a period that CloudWatch offers."
  type        = number
  default     = 400

  validation {
    condition     = contains(local.log_days, var.retention_days)
    error_message = "retention_days = ${var.retention_days}: must be a period that CloudWatch offers: ${join(", ", local.log_days)}."
  }
}

variable "strategies" {
  description = <<-TEXT
    The strategies to run, by name; by default one paper strategy, trend.
    mode                  dry-run, paper, or live (which live_strategies must confirm)
    settings              variables of docs/reference/settings.md, such as { SIGNAL = "interval", MAX_ORDER_USD = "5000" }
    parameters            variables whose values are in SSM: { ALPACAPW = "/my/path" }; the keys have default paths
    schedule              AWS cron expression, in UTC
    daily_at              "15:00", New York time: one run a day, instead of schedule
    enabled               whether the schedule starts the function
    silent_sessions       sessions without a healthy run until the digest says so: 1 to 4, or 0 for never; by default 2, or 3 after 13:00
    drawdown_alarm_fraction    how far the equity falls below its highest until a message says so; by default MAX_DRAWDOWN_FRACTION or 0.2
    memory_mb, timeout_s, tracing, reserved_concurrency    of the Lambda function
  TEXT
  type = map(object({
    mode                    = optional(string, "paper")
    settings                = optional(map(string), {})
    parameters              = optional(map(string), {})
    schedule                = optional(string, "cron(0/15 13-21 ? * MON-FRI *)")
    daily_at                = optional(string)
    enabled                 = optional(bool, true)
    silent_sessions         = optional(number)
    drawdown_alarm_fraction = optional(number)
    memory_mb               = optional(number, 512)
    timeout_s               = optional(number, 300)
    tracing                 = optional(bool, false)
    reserved_concurrency    = optional(number)
  }))
  default  = { trend = {} }
  nullable = false

  validation {
    condition     = length(var.strategies) > 0
    error_message = "strategies is empty: name at least one, such as { trend = {} }. To delete everything, run make destroy."
  }

  validation {
    condition     = alltrue([for name in keys(var.strategies) : can(regex("^[a-z0-9](-?[a-z0-9]){0,31}$", name)) && name != "all" && !startswith(name, "ci-")])
    error_message = "strategies: ${join(", ", keys(var.strategies))}: each name must be at most 32 lower-case letters, digits and single hyphens, with no hyphen at either end. Not allowed are all, which means every strategy to make resume, and ci-..., the names of the roles of make bootstrap."
  }

  validation {
    condition     = alltrue([for its in values(var.strategies) : contains(["dry-run", "paper", "live"], its.mode)])
    error_message = "strategies: mode = ${join(", ", distinct(values(var.strategies)[*].mode))}: each must be dry-run, paper or live."
  }

  validation {
    condition     = alltrue([for name, its in var.strategies : its.mode != "live" || contains(var.live_strategies, name)])
    error_message = "mode = \"live\" trades real money: confirm it with live_strategies = ${jsonencode([for name, its in var.strategies : name if its.mode == "live"])}, or use mode = \"paper\"."
  }

  validation {
    condition     = length(setsubtract(var.live_strategies, keys(var.strategies))) == 0
    error_message = "live_strategies: ${join(", ", setsubtract(var.live_strategies, keys(var.strategies)))}: no strategy has this name; correct it, or add the strategy."
  }

  validation {
    condition     = alltrue([for its in values(var.strategies) : its.silent_sessions == null || try(contains(range(5), its.silent_sessions), false)])
    error_message = "strategies: silent_sessions = ${join(", ", [for its in values(var.strategies) : its.silent_sessions if its.silent_sessions != null])}: each must be 1 to 4, or 0 if the digest shall not say so."
  }

  validation {
    condition     = alltrue([for its in values(var.strategies) : its.drawdown_alarm_fraction == null || try(its.drawdown_alarm_fraction > 0 && its.drawdown_alarm_fraction <= 1, false)])
    error_message = "strategies: drawdown_alarm_fraction = ${join(", ", [for its in values(var.strategies) : its.drawdown_alarm_fraction if its.drawdown_alarm_fraction != null])}: each must be more than 0 and at most 1, such as 0.2 for 20 %."
  }

  validation {
    condition     = alltrue([for its in values(var.strategies) : its.daily_at == null || can(regex("^(09:(30|45)|1[0-5]:(00|15|30|45))$", its.daily_at))])
    error_message = "strategies: daily_at = ${join(", ", compact(values(var.strategies)[*].daily_at))}: each must be a quarter hour of the New York session, from \"09:30\" to \"15:45\"."
  }

  validation {
    condition = alltrue([
      for its in values(var.strategies) : alltrue([for name in concat(keys(its.settings), keys(its.parameters)) : can(regex("^[A-Z][A-Z0-9_]*$", name)) && !startswith(name, "AWS_") && !startswith(name, "LAMBDA_")])
    ])
    error_message = "strategies: name settings and parameters as in docs/reference/settings.md, in capitals, such as MAX_ORDER_USD; AWS_... and LAMBDA_... are reserved for Lambda."
  }

  validation {
    condition = alltrue([
      for its in values(var.strategies) : length(setintersection(local.reserved, concat(keys(its.settings), keys(its.parameters)))) == 0
    ])
    error_message = "strategies: ${join(", ", local.reserved)} are not allowed in settings or parameters: set mode, daily_at, silent_sessions and drawdown_alarm_fraction as fields of the strategy; Terraform sets the rest."
  }

  validation {
    condition = alltrue([
      for its in values(var.strategies) : length(setsubtract([for name in concat(keys(its.settings), keys(its.parameters)) : name if !startswith(name, "RULE_")], keys(local.allowed))) == 0
    ])
    error_message = "strategies: ${join(", ", setsubtract([for name in flatten([for its in values(var.strategies) : concat(keys(its.settings), keys(its.parameters))]) : name if !startswith(name, "RULE_")], keys(local.allowed)))}: no setting has this name; the settings are ${join(", ", sort(setsubtract(keys(local.allowed), local.reserved)))}."
  }

  validation {
    condition = alltrue(flatten([
      for its in values(var.strategies) : [
        for name, value in its.settings : can(regex(local.allowed[name].pattern, value)) || alltrue([
          for word in try(local.allowed[name].list, false) ? split(",", value) : [value] : contains(local.allowed[name].words, trimspace(word))
        ]) if can(local.allowed[name].words)
      ]
    ]))
    error_message = "strategies: ${join("; ", distinct(flatten([for its in values(var.strategies) : [for name, value in its.settings : "${name} = \"${value}\": allowed are ${join(", ", local.allowed[name].words)}${can(local.allowed[name].pattern) ? ", or a file such as rules/mine.py" : ""}" if can(local.allowed[name].words) && !can(regex(local.allowed[name].pattern, value)) && !alltrue([for word in try(local.allowed[name].list, false) ? split(",", value) : [value] : contains(try(local.allowed[name].words, []), trimspace(word))])]])))}."
  }

  validation {
    condition = alltrue([
      for its in values(var.strategies) : endswith(lookup(its.settings, "SIGNAL", ""), ".py") || !anytrue([for name in keys(its.settings) : startswith(name, "RULE_")])
    ])
    error_message = "strategies: a RULE_... setting is a parameter of a rule of your own; set SIGNAL to its file, such as rules/mine.py, in the same strategy."
  }

  validation { # a bound that is left out is not equal to the value: above and below are null where min and max are set
    condition = alltrue(flatten([
      for its in values(var.strategies) : [
        for name, value in its.settings : try(
          tonumber(value) >= try(local.allowed[name].min, local.allowed[name].above) && tonumber(value) != try(local.allowed[name].above, null) &&
          tonumber(value) <= try(local.allowed[name].max, local.allowed[name].below) && tonumber(value) != try(local.allowed[name].below, null) &&
          (!can(local.allowed[name].whole) || floor(tonumber(value)) == tonumber(value)), false
        ) if can(local.bounds[name])
      ]
    ]))
    error_message = "strategies: ${join("; ", distinct(flatten([for its in values(var.strategies) : [for name, value in its.settings : "${name} = \"${value}\": must be ${local.bounds[name]}" if can(local.bounds[name]) && !try(
      tonumber(value) >= try(local.allowed[name].min, local.allowed[name].above) && tonumber(value) != try(local.allowed[name].above, null) &&
      tonumber(value) <= try(local.allowed[name].max, local.allowed[name].below) && tonumber(value) != try(local.allowed[name].below, null) &&
      (!can(local.allowed[name].whole) || floor(tonumber(value)) == tonumber(value)), false
    )]])))}."
  }

  validation {
    condition     = alltrue([for its in values(var.strategies) : length(setintersection(concat(local.keys, local.addresses), keys(its.settings))) == 0])
    error_message = "strategies: ALPACAUSER, ALPACAPW and MESSAGE_URL are not allowed in settings, because they would be in Terraform's state and in the console. Remove them, and run make secrets STRATEGY=...; MESSAGE_URL belongs into the parameter /${var.project}/STRATEGY/message_url."
  }

  validation {
    condition     = alltrue([for its in values(var.strategies) : alltrue([for value in values(its.settings) : !startswith(value, "ssm:")])])
    error_message = "strategies: put a setting whose value is in SSM into parameters, without ssm:, so that the role may read it: parameters = { NAME = \"/path\" }."
  }

  validation {
    condition     = alltrue([for its in values(var.strategies) : length(setintersection(keys(its.settings), keys(its.parameters))) == 0])
    error_message = "strategies: ${join(", ", distinct(flatten([for its in values(var.strategies) : tolist(setintersection(keys(its.settings), keys(its.parameters)))])))}: in both settings and parameters; remove it from one of them."
  }

  validation {
    condition = alltrue([
      for key in local.keys : length(distinct([for name, its in var.strategies : lookup(its.parameters, key, "/${var.project}/${name}/${lower(key)}")])) == length(var.strategies)
    ])
    error_message = "strategies: two of them use the same parameter for ALPACAUSER or ALPACAPW. Each treats the whole account as its own and would sell what the other bought: give each its own account."
  }

  validation {
    condition = local.permissions_boundary == null || alltrue([
      for its in values(var.strategies) : alltrue([for name in values(its.parameters) : startswith(name, "/${var.project}/")])
    ])
    error_message = "strategies: parameters must be below /${var.project}/: the boundary from make bootstrap lets a function read no others."
  }
}
