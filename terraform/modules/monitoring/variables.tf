variable "alarm_email" {
  description = "E-mail address for messages and alarms; null for none. AWS first sends it a confirmation request."
  type        = string
  default     = null

  validation {
    condition     = var.alarm_email == null || can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", var.alarm_email))
    error_message = "alarm_email = ${var.alarm_email == null ? "null" : var.alarm_email}: must be an e-mail address, such as you@example.com; correct it, or leave it out for alarms without e-mail."
  }
}

variable "project" {
  description = "Prefix of the names of the topic, alarms, queries and dashboard."
  type        = string
}

variable "queries" {
  description = "Logs Insights queries to save: name to text."
  type        = map(string)
}

variable "strategies" {
  description = "Strategies to monitor, by name: function, log group, the rule of its schedule, and whether that is on."
  type = map(object({
    function_name = string
    log_group     = string
    rule_name     = string
    enabled       = optional(bool, true)
  }))
}
