variable "bucket" {
  description = "Versioned bucket for the code and the journal."
  type        = object({ name = string, arn = string })
}

variable "code_zip" {
  description = "Path of the zip from `make package`."
  type        = string

  validation {
    condition     = fileexists(var.code_zip)
    error_message = "code_zip = ${var.code_zip}: the file does not exist; run make package."
  }
}

variable "environment" {
  description = "Settings as plain variables of the function; no secrets."
  type        = map(string)
}

variable "failure_topic_arn" {
  description = "ARN of the SNS topic for failed events."
  type        = string
}

variable "halt_parameter" {
  description = "Name of the SSM parameter to create: the halt switch, which every run reads."
  type        = string

  validation {
    condition     = can(regex("^/[a-zA-Z0-9_./-]+$", var.halt_parameter))
    error_message = "halt_parameter = ${var.halt_parameter}: must be a path such as /prophet-trader/trend/halt."
  }
}

variable "layer_arn" {
  description = "ARN of the layer version with everything the function imports."
  type        = string
}

variable "name" {
  description = "Name of the function and its role; the log group is /aws/lambda/NAME."
  type        = string

  validation {
    condition     = can(regex("^[a-zA-Z0-9-_]{1,64}$", var.name))
    error_message = "function name ${var.name}: must be at most 64 letters, digits, hyphens and underscores."
  }
}

variable "parameters" {
  description = "Settings whose values are in SSM: variable name to parameter name. The function reads the values; Terraform never does."
  type        = map(string)

  validation {
    condition     = alltrue([for name in values(var.parameters) : can(regex("^/[a-zA-Z0-9_./-]+$", name))])
    error_message = "parameters: ${join(", ", values(var.parameters))}: each must be the name of an SSM parameter such as /prophet-trader/trend/alpacapw, without ssm:."
  }
}

variable "runtime" {
  description = "How the function runs: Python version, architecture, memory (MB), timeout (s), days to keep its log, X-Ray tracing, reserved executions (null: none), permissions boundary of the role (null: none)."
  type = object({
    python               = string
    architecture         = string
    memory_mb            = number
    timeout_s            = number
    log_days             = number
    tracing              = bool
    reserved_concurrency = optional(number)
    permissions_boundary = optional(string)
  })

  validation {
    condition     = var.runtime.memory_mb >= 256 && var.runtime.memory_mb <= 10240
    error_message = "memory_mb = ${var.runtime.memory_mb}: must be from 256 (a run takes about 150 MB) to 10240."
  }

  validation {
    condition     = var.runtime.timeout_s >= 150 && var.runtime.timeout_s <= 900
    error_message = "timeout_s = ${var.runtime.timeout_s}: must be from 150 (the last 100 s are kept for orders) to 900."
  }

  validation {
    condition     = try(var.runtime.reserved_concurrency >= 1, true)
    error_message = "reserved_concurrency: must be 1 or more; 0 would let nothing run. To stop a strategy, run make halt."
  }
}

variable "strategy" {
  description = "Name of the strategy and of its folder in the journal."
  type        = string
}
