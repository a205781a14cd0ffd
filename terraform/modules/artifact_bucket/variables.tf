variable "delete_journal" {
  description = "Whether Terraform may delete the bucket with everything in it, the journal included."
  type        = bool
  default     = false
}

variable "lock" {
  description = "Days for which nobody may delete a version of an object (S3 Object Lock), and its mode; null for none. It cannot be undone."
  type = object({
    days = number
    mode = optional(string, "GOVERNANCE")
  })
  default = null

  validation {
    condition     = var.lock == null || contains(["GOVERNANCE", "COMPLIANCE"], try(var.lock.mode, ""))
    error_message = "lock: mode = ${try(var.lock.mode, "")}: must be GOVERNANCE, which some roles may lift, or COMPLIANCE, which nobody can."
  }

  validation {
    condition     = var.lock == null || try(var.lock.days >= 1 && floor(var.lock.days) == var.lock.days && var.lock.days <= var.retention_days, false)
    error_message = "lock: days = ${try(var.lock.days, "")}: must be a whole number from 1 to retention_days, ${var.retention_days}, after which records are deleted."
  }
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
