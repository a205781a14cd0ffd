# The most that any function of this project may ever do. CI can create roles, but only within this boundary, so that it
# cannot make itself an administrator; the roles' own policies (terraform/modules/function) name each strategy's resources.

resource "aws_iam_policy" "boundary" {
  name        = "${var.project}-boundary"
  description = "The most that a function of ${var.project} may do"
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "Log"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = "${local.arn.logs}:log-group:/aws/lambda/${var.project}-*:*"
      },
      {
        Sid      = "SecretsAndHaltSwitch"
        Effect   = "Allow"
        Action   = "ssm:GetParameters"
        Resource = "${local.arn.ssm}:parameter/${var.project}/*"
      },
      {
        Sid       = "DecryptThem" # the key's own policy grants this; a boundary without it might take it away again
        Effect    = "Allow"
        Action    = "kms:Decrypt"
        Resource  = "arn:${local.partition}:kms:${local.region}:${local.account}:key/*"
        Condition = { StringEquals = { "kms:ViaService" = "ssm.${local.region}.amazonaws.com" } }
      },
      {
        Sid      = "Journal"
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:PutObject"]
        Resource = [for folder in ["runs", "universe", "equity", "accounts", "digests"] : "${local.artifacts_arn}/${folder}/*"]
      },
      {
        Sid      = "TellMissingFromForbidden"
        Effect   = "Allow"
        Action   = "s3:ListBucket"
        Resource = local.artifacts_arn
      },
      {
        Sid      = "ReportFailures" # and send messages
        Effect   = "Allow"
        Action   = "sns:Publish"
        Resource = "${local.arn.sns}:${var.project}-alarms"
      },
      {
        Sid      = "Trace"
        Effect   = "Allow"
        Action   = ["xray:PutTelemetryRecords", "xray:PutTraceSegments"]
        Resource = "*" # X-Ray has no resources to name
      },
    ]
  })
}

# The root configuration finds the boundary here, with and without make. Otherwise a plan would remove it from the roles.
resource "aws_ssm_parameter" "boundary" {
  #checkov:skip=CKV2_AWS_34:the ARN of a policy is not a secret
  name        = "/${var.project}/_bootstrap/permissions-boundary"
  description = "ARN of the policy that bounds the roles of ${var.project}'s functions"
  type        = "String"
  value       = aws_iam_policy.boundary.arn
}
