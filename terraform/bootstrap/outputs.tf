output "artifact_bucket" {
  description = "The root configuration's bucket_name, if set; null for the default name. Kept here for the next `make bootstrap`."
  value       = var.artifact_bucket
}

output "boundary_arn" {
  description = "Policy that bounds what the functions' roles may do: the root configuration's permissions_boundary."
  value       = aws_iam_policy.boundary.arn
}

output "branch" {
  description = "Branch from which GitHub may deploy; null without a repository."
  value       = var.repository == null ? null : var.branch
}

output "deploy_role_arn" {
  description = "Role with which GitHub deploys; null without a repository."
  value       = try(aws_iam_role.ci["deploy"].arn, null)
}

output "plan_role_arn" {
  description = "Role with which GitHub plans; null without a repository."
  value       = try(aws_iam_role.ci["plan"].arn, null)
}

output "repository" {
  description = "GitHub repository that may plan and deploy; null for none."
  value       = var.repository
}

output "repository_ids" {
  description = "GitHub's numeric ids of that repository's owner and of the repository; null if unknown."
  value       = var.repository_ids
}

output "state_bucket" {
  description = "Bucket for Terraform's state."
  value       = aws_s3_bucket.state.id
}
