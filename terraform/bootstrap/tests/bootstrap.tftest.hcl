# Every validation and every conditional, with a mocked provider: no account, no network.

mock_provider "aws" {
  override_during = plan # nothing is applied, because prevent_destroy would keep the test from cleaning up
  override_data {
    target = data.aws_caller_identity.this
    values = { account_id = "123456789012" }
  }
  override_data {
    target = data.aws_partition.this
    values = { partition = "aws" }
  }
  override_data {
    target = data.aws_region.this
    values = { id = "eu-west-1" }
  }
  mock_resource "aws_iam_openid_connect_provider" {
    defaults = { arn = "arn:aws:iam::123456789012:oidc-provider/made.here" }
  }
  mock_resource "aws_s3_bucket" {
    defaults = { id = "the-bucket", arn = "arn:aws:s3:::the-bucket" }
  }
}

run "without_a_repository_there_are_only_bucket_and_boundary" {
  command = plan
  assert {
    condition     = aws_s3_bucket.state.bucket == "prophet-trader-state-123456789012-eu-west-1"
    error_message = "the state bucket has another name: ${aws_s3_bucket.state.bucket}"
  }
  assert {
    condition     = length(aws_iam_role.ci) == 0 && length(aws_iam_openid_connect_provider.github) == 0
    error_message = "roles or an OIDC provider were created without a repository"
  }
  assert {
    condition     = aws_iam_policy.boundary.name == "prophet-trader-boundary"
    error_message = "there is no boundary"
  }
  assert {
    condition     = output.plan_role_arn == null && output.deploy_role_arn == null && output.branch == null
    error_message = "there is no CI, but outputs mention it"
  }
}

run "a_repository_has_two_roles_and_the_provider" {
  command = plan
  variables {
    repository = "octo-org/bot"
  }
  assert {
    condition     = [for role in aws_iam_role.ci : role.name] == ["prophet-trader-ci-deploy", "prophet-trader-ci-plan"]
    error_message = "the roles have other names"
  }
  assert {
    condition     = jsondecode(aws_iam_role.ci["deploy"].assume_role_policy).Statement[0].Principal.Federated == "arn:aws:iam::123456789012:oidc-provider/made.here"
    error_message = "the role does not trust the provider created here"
  }
}

run "deploy_trusts_the_branch_alone" {
  command = plan
  variables {
    repository = "octo-org/bot"
    branch     = "release/1.0"
  }
  assert {
    condition = jsondecode(aws_iam_role.ci["deploy"].assume_role_policy).Statement[0].Condition == {
      StringEquals = {
        "token.actions.githubusercontent.com:aud" = "sts.amazonaws.com"
        "token.actions.githubusercontent.com:sub" = ["repo:octo-org/bot:ref:refs/heads/release/1.0"]
      }
    }
    error_message = "ci-deploy trusts ${aws_iam_role.ci["deploy"].assume_role_policy}"
  }
}

run "plan_trusts_pull_requests_too" {
  command = plan
  variables {
    repository = "octo-org/bot"
  }
  assert {
    condition = jsondecode(aws_iam_role.ci["plan"].assume_role_policy).Statement[0].Condition.StringEquals["token.actions.githubusercontent.com:sub"] == [
      "repo:octo-org/bot:pull_request", "repo:octo-org/bot:ref:refs/heads/main"
    ]
    error_message = "ci-plan trusts ${aws_iam_role.ci["plan"].assume_role_policy}"
  }
}

run "ids_are_trusted_in_addition_to_names" {
  command = plan
  variables {
    repository     = "octo-org/bot"
    repository_ids = "12/345"
  }
  assert {
    condition = jsondecode(aws_iam_role.ci["deploy"].assume_role_policy).Statement[0].Condition.StringEquals["token.actions.githubusercontent.com:sub"] == [
      "repo:octo-org/bot:ref:refs/heads/main", "repo:octo-org@12/bot@345:ref:refs/heads/main"
    ]
    error_message = "ci-deploy trusts ${aws_iam_role.ci["deploy"].assume_role_policy}"
  }
}

run "an_existing_provider_is_used" {
  command = plan
  variables {
    repository           = "octo-org/bot"
    create_oidc_provider = false
  }
  assert {
    condition     = length(aws_iam_openid_connect_provider.github) == 0
    error_message = "a second provider was created, which AWS refuses"
  }
  assert {
    condition     = jsondecode(aws_iam_role.ci["plan"].assume_role_policy).Statement[0].Principal.Federated == "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"
    error_message = "the role does not trust the account's provider"
  }
}

run "plan_may_only_read" {
  command = plan
  variables {
    repository = "octo-org/bot"
  }
  assert {
    condition = alltrue([
      for action in flatten(jsondecode(aws_iam_role_policy.ci["plan"].policy).Statement[*].Action) : can(regex("^[a-z0-9]+:(Get|List|Describe)[A-Z]", action))
    ])
    error_message = "ci-plan may do more than read"
  }
}

run "the_policies_fit_into_a_role" {
  command = plan
  variables {
    project        = "twenty-letters-long1"
    repository     = "octo-org/bot"
    repository_ids = "12/345"
  }
  assert {
    condition     = alltrue([for policy in aws_iam_role_policy.ci : length(policy.policy) <= 10240])
    error_message = "IAM allows 10,240 characters in a role's inline policies, but these have ${join(", ", [for policy in aws_iam_role_policy.ci : length(policy.policy)])}"
  }
}

run "the_policies_name_a_custom_artifact_bucket" {
  command = plan
  variables {
    artifact_bucket = "my-zips"
  }
  assert {
    condition     = strcontains(aws_iam_policy.boundary.policy, "\"arn:aws:s3:::my-zips/runs/*\"")
    error_message = "the boundary names another bucket: ${aws_iam_policy.boundary.policy}"
  }
}

run "a_bucket_name_that_s3_would_refuse_is_refused" {
  command         = plan
  expect_failures = [var.artifact_bucket]
  variables {
    artifact_bucket = "My_Zips"
  }
}

run "a_pattern_as_the_branch_is_refused" {
  command         = plan
  expect_failures = [var.branch]
  variables {
    branch = "release/*"
  }
}

run "a_project_that_iam_would_refuse_is_refused" {
  command         = plan
  expect_failures = [var.project]
  variables {
    project = "Prophet Trader"
  }
}

run "a_project_that_ssm_would_refuse_is_refused" {
  command         = plan
  expect_failures = [var.project]
  variables {
    project = "aws-trader"
  }
}

run "a_pattern_as_the_repository_is_refused" {
  command         = plan
  expect_failures = [var.repository]
  variables {
    repository = "octo-org/*"
  }
}

run "an_address_as_the_repository_is_refused" {
  command         = plan
  expect_failures = [var.repository]
  variables {
    repository = "https://github.com/octo-org/bot"
  }
}

run "malformed_ids_are_refused" {
  command         = plan
  expect_failures = [var.repository_ids]
  variables {
    repository     = "octo-org/bot"
    repository_ids = "12"
  }
}

run "ids_without_a_repository_are_refused" {
  command         = plan
  expect_failures = [var.repository_ids]
  variables {
    repository_ids = "12/345"
  }
}
