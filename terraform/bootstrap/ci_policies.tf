# The permissions of the roles in ci.tf: only for what terraform/ manages, by name. The wildcards stand for strategies.
#
# No statement permits reading the secrets, which no plan needs. But anyone who may deploy code to a function can make it do
# whatever its role allows, so the branch itself must be protected, and apply waits for approval.

locals {
  role_arn       = "${local.iam}:role/${var.project}-*"
  function_arn   = "${local.arn.lambda}:function:${var.project}-*"
  layer_arn      = "${local.arn.lambda}:layer:${var.project}-*"
  log_group_arn  = "${local.arn.logs}:log-group:/aws/lambda/${var.project}-*"
  rule_arn       = "${local.arn.events}:rule/${var.project}-*"
  alarm_arn      = "${local.arn.cloudwatch}:alarm:${var.project}-*"
  dashboard_arn  = "arn:${local.partition}:cloudwatch::${local.account}:dashboard/${var.project}"
  topic_arn      = "${local.arn.sns}:${var.project}-alarms"
  halt_arn       = "${local.arn.ssm}:parameter/${var.project}/*/halt"
  zips_arns      = [for folder in ["function", "layer"] : "${local.artifacts_arn}/${folder}/*"]
  state_arn      = "arn:${local.partition}:s3:::${local.state_bucket}"
  root_state_arn = "${local.state_arn}/prophet-trader.tfstate"

  # Everything that the provider reads to compare AWS with the state.
  reads = [
    {
      Sid      = "ReadFunctions"
      Effect   = "Allow"
      Action   = ["lambda:GetAlias", "lambda:GetFunction", "lambda:GetFunctionCodeSigningConfig", "lambda:GetFunctionConcurrency", "lambda:GetFunctionConfiguration", "lambda:GetFunctionEventInvokeConfig", "lambda:GetLayerVersion", "lambda:GetPolicy", "lambda:ListTags", "lambda:ListVersionsByFunction"]
      Resource = [local.function_arn, local.layer_arn]
    },
    {
      Sid      = "ReadRoles"
      Effect   = "Allow"
      Action   = ["iam:GetPolicy", "iam:GetRole", "iam:GetRolePolicy", "iam:ListAttachedRolePolicies", "iam:ListInstanceProfilesForRole", "iam:ListRolePolicies"]
      Resource = [local.role_arn, local.boundary_arn]
    },
    {
      Sid    = "ReadWatchers"
      Effect = "Allow"
      Action = [
        "cloudwatch:GetDashboard", "cloudwatch:ListTagsForResource", "events:DescribeRule", "events:ListTagsForResource", "events:ListTargetsByRule",
        "logs:DescribeMetricFilters", "logs:ListTagsForResource", "sns:GetTopicAttributes", "sns:ListSubscriptionsByTopic", "sns:ListTagsForResource"
      ]
      Resource = [local.alarm_arn, local.dashboard_arn, local.rule_arn, local.log_group_arn, local.topic_arn]
    },
    {
      Sid      = "ReadHaltSwitches" # and no other parameter
      Effect   = "Allow"
      Action   = ["ssm:GetParameter", "ssm:ListTagsForResource"]
      Resource = local.halt_arn
    },
    {
      Sid      = "FindBoundaryAndState" # the boundary's ARN, and whether an installation has a local state
      Effect   = "Allow"
      Action   = "ssm:GetParametersByPath"
      Resource = [for folder in ["_bootstrap", "_installation"] : "${local.arn.ssm}:parameter/${var.project}/${folder}"]
    },
    {
      Sid      = "ListWhatHasNoResourceToName" # names and settings only; a secret's parameter is listed without its value
      Effect   = "Allow"
      Action   = ["cloudwatch:DescribeAlarms", "logs:DescribeLogGroups", "logs:DescribeQueryDefinitions", "sns:GetSubscriptionAttributes", "ssm:DescribeParameters", "tag:GetResources"]
      Resource = "*"
    },
    {
      Sid      = "ReadBucket"
      Effect   = "Allow"
      Action   = ["s3:GetAccelerateConfiguration", "s3:GetBucket*", "s3:GetEncryptionConfiguration", "s3:GetLifecycleConfiguration", "s3:GetReplicationConfiguration", "s3:ListBucket"]
      Resource = local.artifacts_arn
    },
    {
      Sid      = "ReadZips"
      Effect   = "Allow"
      Action   = ["s3:GetObject", "s3:GetObjectTagging", "s3:GetObjectVersion"]
      Resource = local.zips_arns
    },
    {
      Sid      = "FindState"
      Effect   = "Allow"
      Action   = "s3:ListBucket"
      Resource = local.state_arn
    },
    {
      Sid      = "ReadState"
      Effect   = "Allow"
      Action   = "s3:GetObject"
      Resource = local.root_state_arn
    },
  ]

  writes = [
    {
      Sid    = "WriteFunctions"
      Effect = "Allow"
      Action = [
        "lambda:CreateAlias", "lambda:CreateFunction", "lambda:DeleteAlias", "lambda:DeleteFunction", "lambda:DeleteFunctionConcurrency",
        "lambda:DeleteFunctionEventInvokeConfig", "lambda:DeleteLayerVersion", "lambda:PublishLayerVersion", "lambda:PublishVersion",
        "lambda:PutFunctionConcurrency", "lambda:PutFunctionEventInvokeConfig", "lambda:RemovePermission", "lambda:TagResource",
        "lambda:UntagResource", "lambda:UpdateAlias", "lambda:UpdateFunctionCode", "lambda:UpdateFunctionConfiguration"
      ]
      Resource = [local.function_arn, local.layer_arn]
    },
    {
      Sid       = "LetScheduleInvoke" # and nobody else
      Effect    = "Allow"
      Action    = "lambda:AddPermission"
      Resource  = local.function_arn
      Condition = { StringEquals = { "lambda:Principal" = "events.amazonaws.com" } }
    },
    {
      Sid       = "WriteBoundedRoles"
      Effect    = "Allow"
      Action    = ["iam:CreateRole", "iam:DeleteRolePolicy", "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy"]
      Resource  = local.role_arn
      Condition = { StringEquals = { "iam:PermissionsBoundary" = local.boundary_arn } }
    },
    {
      Sid      = "WriteRoles" # none of these grants a permission; a role's trust policy is set only at its creation
      Effect   = "Allow"
      Action   = ["iam:DeleteRole", "iam:TagRole", "iam:UntagRole", "iam:UpdateRole", "iam:UpdateRoleDescription"]
      Resource = local.role_arn
    },
    {
      Sid       = "PassRolesToLambda"
      Effect    = "Allow"
      Action    = "iam:PassRole"
      Resource  = local.role_arn
      Condition = { StringEquals = { "iam:PassedToService" = "lambda.amazonaws.com" } }
    },
    {
      Sid      = "LeaveOwnRoles" # their names, and those of a project whose name begins like this one, fit the functions' too
      Effect   = "Deny"
      Action   = "iam:*"
      Resource = ["${local.iam}:role/${var.project}-ci-*", "${local.iam}:role/${var.project}-*-ci-deploy", "${local.iam}:role/${var.project}-*-ci-plan"]
    },
    {
      Sid    = "WriteWatchers"
      Effect = "Allow"
      Action = [
        "cloudwatch:DeleteAlarms", "cloudwatch:DeleteDashboards", "cloudwatch:PutDashboard", "cloudwatch:PutMetricAlarm", "cloudwatch:TagResource",
        "cloudwatch:UntagResource", "events:DeleteRule", "events:DisableRule", "events:EnableRule", "events:PutRule", "events:PutTargets",
        "events:RemoveTargets", "events:TagResource", "events:UntagResource", "logs:CreateLogGroup", "logs:DeleteLogGroup", "logs:DeleteMetricFilter",
        "logs:DeleteRetentionPolicy", "logs:PutMetricFilter", "logs:PutRetentionPolicy", "logs:TagResource", "logs:UntagResource", "sns:CreateTopic",
        "sns:DeleteTopic", "sns:SetTopicAttributes", "sns:Subscribe", "sns:TagResource", "sns:UntagResource"
      ]
      Resource = [local.alarm_arn, local.dashboard_arn, local.rule_arn, local.log_group_arn, local.topic_arn]
    },
    {
      Sid      = "WriteWhatHasNoResourceToName"
      Effect   = "Allow"
      Action   = ["logs:DeleteQueryDefinition", "logs:PutQueryDefinition", "sns:Unsubscribe"]
      Resource = "*"
    },
    {
      Sid      = "WriteHaltSwitches"
      Effect   = "Allow"
      Action   = ["ssm:AddTagsToResource", "ssm:DeleteParameter", "ssm:PutParameter", "ssm:RemoveTagsFromResource"]
      Resource = local.halt_arn
    },
    {
      # The bucket itself is made and changed on a laptop only: its policy or its lifecycle could delete the journal, or let
      # this role or another account do so. A Deny also holds against a bucket policy that allows.
      Sid    = "LeaveBuckets"
      Effect = "Deny"
      Action = [
        "s3:BypassGovernanceRetention", "s3:CreateBucket", "s3:DeleteBucket*", "s3:PutAccountPublicAccessBlock", "s3:PutBucket*",
        "s3:PutEncryptionConfiguration", "s3:PutIntelligentTieringConfiguration", "s3:PutInventoryConfiguration",
        "s3:PutLifecycleConfiguration", "s3:PutReplicationConfiguration"
      ]
      Resource = "*"
    },
    {
      Sid      = "LeaveJournal" # only functions write it, and only `make destroy`, on a laptop, deletes it
      Effect   = "Deny"
      Action   = ["s3:DeleteObject*", "s3:PutObject*", "s3:ReplicateDelete", "s3:ReplicateObject", "s3:RestoreObject"]
      Resource = [for folder in ["runs", "universe", "equity", "accounts", "digests"] : "${local.artifacts_arn}/${folder}/*"]
    },
    {
      Sid      = "KeepStates" # their old versions are the backup
      Effect   = "Deny"
      Action   = ["s3:DeleteObjectVersion", "s3:PutObjectAcl", "s3:PutObjectVersionAcl"]
      Resource = "${local.state_arn}/*"
    },
    {
      Sid      = "WriteZips"
      Effect   = "Allow"
      Action   = ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:DeleteObjectVersion", "s3:PutObject", "s3:PutObjectTagging"]
      Resource = local.zips_arns
    },
    {
      Sid      = "WriteState"
      Effect   = "Allow"
      Action   = "s3:PutObject"
      Resource = local.root_state_arn
    },
    {
      Sid      = "LockState"
      Effect   = "Allow"
      Action   = ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
      Resource = "${local.root_state_arn}.tflock"
    },
  ]
}
