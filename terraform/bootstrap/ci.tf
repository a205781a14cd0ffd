# Two roles for GitHub Actions, without any key that could leak: ci-plan may read, ci-deploy may change what terraform/
# manages. Without `repository` there are none.
#
# ci-deploy trusts the branch and not the environment `production`. GitHub creates an unprotected environment as soon as a
# workflow names it, so trusting its name would admit every branch if the owner forgot to protect it. Approval is therefore
# a separate job in that environment, and the job that applies runs after it, with the branch as its subject.

locals {
  issuer       = "token.actions.githubusercontent.com"
  provider_arn = var.create_oidc_provider ? one(aws_iam_openid_connect_provider.github[*].arn) : "${local.iam}:oidc-provider/${local.issuer}"

  # The repository's name in GitHub's tokens. For repositories created, renamed or moved after 15 July 2026 it includes their
  # ids; for older ones it does not. Both are exact: a new repository with the name of a deleted one has other ids.
  names   = compact(split("/", coalesce(var.repository, "/")))
  numbers = compact(split("/", coalesce(var.repository_ids, "/")))
  prefixes = var.repository == null ? [] : concat(
    ["repo:${var.repository}"],
    var.repository_ids == null ? [] : ["repo:${join("/", [for index, name in local.names : "${name}@${local.numbers[index]}"])}"],
  )

  branch_subjects = [for prefix in local.prefixes : "${prefix}:ref:refs/heads/${var.branch}"]
  roles = { for name, role in {
    plan = {
      description = "Reads what a plan of ${var.project} needs"
      subjects    = concat([for prefix in local.prefixes : "${prefix}:pull_request"], local.branch_subjects)
      policy      = jsonencode({ Version = "2012-10-17", Statement = local.reads })
    }
    deploy = {
      description = "Deploys ${var.project}"
      subjects    = local.branch_subjects
      policy      = jsonencode({ Version = "2012-10-17", Statement = concat(local.reads, local.writes) })
    }
  } : name => role if var.repository != null }
}

resource "aws_iam_openid_connect_provider" "github" {
  count          = var.repository != null && var.create_oidc_provider ? 1 : 0
  url            = "https://${local.issuer}"
  client_id_list = ["sts.amazonaws.com"]
}

resource "aws_iam_role" "ci" {
  for_each             = local.roles
  name                 = "${var.project}-ci-${each.key}"
  description          = each.value.description
  max_session_duration = 3600 # seconds, the shortest that AWS allows
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRoleWithWebIdentity"
      Principal = { Federated = local.provider_arn }
      Condition = {
        StringEquals = {
          "${local.issuer}:aud" = "sts.amazonaws.com"
          "${local.issuer}:sub" = each.value.subjects
        }
      }
    }]
  })
}

resource "aws_iam_role_policy" "ci" {
  for_each = local.roles
  name     = each.key
  role     = aws_iam_role.ci[each.key].name
  policy   = each.value.policy
}
