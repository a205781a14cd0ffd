variable "enabled" {
  description = "Whether the rule fires."
  type        = bool
}

variable "expression" {
  description = "AWS cron expression, in UTC: cron(minutes hours day-of-month month day-of-week year)."
  type        = string
}

variable "function" {
  description = "The function to start: its name, the alias, and that alias's ARN."
  type = object({
    name      = string
    alias     = string
    alias_arn = string
  })
}

variable "name" {
  description = "Name of the rule."
  type        = string
}

variable "task" {
  description = "What the function does instead of a run, such as digest; null for a run."
  type        = string
  default     = null
}
