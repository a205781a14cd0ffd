variable "alarm_email" {
  description = "Address that alarms are sent to; null for none. AWS asks it to confirm first."
  type        = string
  default     = null

  validation {
    condition     = var.alarm_email == null || can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", var.alarm_email))
    error_message = "alarm_email is no e-mail address; leave it out for alarms without e-mail."
  }
}

variable "project" {
  description = "What the names of topic, alarms, queries and dashboard begin with."
  type        = string
}

variable "queries" {
  description = "Logs Insights queries to save: name to text."
  type        = map(string)
}

variable "strategies" {
  description = "What to watch, by name of the strategy: function, log group, rule, and the function's timeout in seconds."
  type = map(object({
    function_name = string
    log_group     = string
    rule_name     = string
    timeout_s     = number
  }))
}
