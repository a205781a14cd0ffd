# `make bootstrap` sets these variables; none has to be set by hand.

variable "artifact_bucket" {
  description = "The root configuration's bucket_name, if set; null for PROJECT-ACCOUNT-REGION."
  type        = string
  default     = null

  validation {
    condition     = var.artifact_bucket == null || can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.artifact_bucket))
    error_message = "artifact_bucket = ${var.artifact_bucket == null ? "null" : var.artifact_bucket}: must be 3 to 63 lower-case letters, digits and hyphens, with no hyphen at either end, and the same as bucket_name in terraform/."
  }
}

variable "branch" {
  description = "The only branch from which GitHub may deploy."
  type        = string
  default     = "main"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_][A-Za-z0-9._/-]*$", var.branch))
    error_message = "branch = ${var.branch}: must be the name of one branch, such as main; patterns are not allowed."
  }
}

variable "create_oidc_provider" {
  description = "Whether to create GitHub's OIDC provider; false if the account already has it, because there can be only one."
  type        = bool
  default     = true
  nullable    = false
}

variable "project" {
  description = "Prefix of all names; the same as in terraform/."
  type        = string
  default     = "prophet-trader"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,19}$", var.project)) && !can(regex("^(aws|ssm)", var.project))
    error_message = "project = ${var.project}: must be 2 to 20 lower-case letters, digits and hyphens, begin with a letter, and not begin with aws or ssm."
  }
}

variable "repository" {
  description = "The GitHub repository that may plan and deploy, owner/name; null for none."
  type        = string
  default     = null

  validation {
    condition     = var.repository == null || can(regex("^[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+$", var.repository))
    error_message = "repository = ${var.repository == null ? "null" : var.repository}: must be owner/name as on GitHub, such as octo-org/prophet-trader; addresses and patterns are not allowed."
  }
}

variable "repository_ids" {
  description = "GitHub's numeric ids of the repository's owner and of the repository, such as 1234/5678; null if unknown."
  type        = string
  default     = null

  validation {
    condition     = var.repository_ids == null || can(regex("^[1-9][0-9]*/[1-9][0-9]*$", var.repository_ids))
    error_message = "repository_ids = ${var.repository_ids == null ? "null" : var.repository_ids}: must be two numbers, owner/repository, such as 1234/5678; get them with: gh api repos/OWNER/NAME --jq '\"\\(.owner.id)/\\(.id)\"'"
  }

  validation {
    condition     = var.repository_ids == null || var.repository != null
    error_message = "repository_ids without repository: set both, or neither."
  }
}
