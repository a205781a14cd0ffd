variable "delete_journal" {
  description = "Whether Terraform may delete the bucket with everything in it, the journal included."
  type        = bool
  default     = false
}

variable "name" {
  description = "Name of the bucket; no other AWS account may have a bucket of this name."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.name))
    error_message = "bucket name ${var.name}: must be 3 to 63 lower-case letters, digits and hyphens, with no hyphen at either end."
  }
}

variable "retention_days" {
  description = "Days after which journal records are deleted."
  type        = number

  validation {
    condition     = var.retention_days >= 1 && floor(var.retention_days) == var.retention_days
    error_message = "retention_days = ${var.retention_days}: must be a whole number of days, 1 or more."
  }
}
