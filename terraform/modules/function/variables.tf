variable "bucket" {
  description = "The versioned bucket that takes the code and keeps the journal."
  type        = object({ name = string, arn = string })
}

variable "code_zip" {
  description = "Path of the zip from `make package`."
  type        = string

  validation {
    condition     = fileexists(var.code_zip)
    error_message = "There is no function at ${var.code_zip}: run make package."
  }
}

variable "environment" {
  description = "Settings as plain variables of the function; no secrets."
  type        = map(string)
}

variable "failure_topic_arn" {
  description = "ARN of the SNS topic that is told of events that failed."
  type        = string
}

variable "halt_parameter" {
  description = "Name of the SSM parameter to make: the switch that is read on every run."
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
  description = "Name of function and role; the log group is /aws/lambda/NAME."
  type        = string

  validation {
    condition     = can(regex("^[a-zA-Z0-9-_]{1,64}$", var.name))
    error_message = "function name ${var.name}: AWS takes 64 letters, digits, - and _ at most."
  }
}

variable "parameters" {
  description = "Settings that come from SSM: name of the variable to name of the parameter. The function reads them; Terraform never does."
  type        = map(string)

  validation {
    condition     = alltrue([for name in values(var.parameters) : can(regex("^/[a-zA-Z0-9_./-]+$", name))])
    error_message = "parameters: ${join(", ", values(var.parameters))}: each must be the name of an SSM parameter such as /prophet-trader/trend/alpacapw, without ssm:."
  }
}

variable "runtime" {
  description = "What it runs on and for how long: Python version, machine, memory (MB), timeout (s), days to keep its log, X-Ray tracing, executions reserved (null: none), permissions boundary of the role (null: none)."
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
    error_message = "memory_mb = ${var.runtime.memory_mb}: must be from 256 (a run holds some 150 MB) to 10240."
  }

  validation {
    condition     = var.runtime.timeout_s >= 150 && var.runtime.timeout_s <= 900
    error_message = "timeout_s = ${var.runtime.timeout_s}: must be from 150 (the last 100 s are kept for orders) to 900."
  }

  validation {
    condition     = try(var.runtime.reserved_concurrency >= 1, true)
    error_message = "reserved_concurrency: must be 1 or more; 0 would let nothing run. To stop a strategy: make halt."
  }
}

variable "strategy" {
  description = "Name of the strategy: its folder in the journal."
  type        = string
}
