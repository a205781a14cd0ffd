output "artifact_bucket" {
  description = "The root's bucket_name, if one was set; null for the usual one. Kept here for the next `make bootstrap`."
  value       = var.artifact_bucket
}

output "boundary_arn" {
  description = "Policy that bounds what the functions' roles may do: the root's permissions_boundary."
  value       = aws_iam_policy.boundary.arn
}

output "branch" {
  description = "Branch from which GitHub may deploy; null without a repository."
  value       = var.repository == null ? null : var.branch
}

output "deploy_role_arn" {
  description = "Role that GitHub deploys with; null without a repository."
  value       = try(aws_iam_role.ci["deploy"].arn, null)
}

output "plan_role_arn" {
  description = "Role that GitHub plans with; null without a repository."
  value       = try(aws_iam_role.ci["plan"].arn, null)
}

output "repository" {
  description = "GitHub repository that may plan and deploy; null for none."
  value       = var.repository
}

output "repository_ids" {
  description = "GitHub's numbers of that repository's owner and of itself; null if unknown."
  value       = var.repository_ids
}

output "state_bucket" {
  description = "Bucket of Terraform's state."
  value       = aws_s3_bucket.state.id
}
