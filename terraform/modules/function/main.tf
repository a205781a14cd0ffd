# One strategy's Lambda function: code, role, log group, halt switch, and the alias that the schedule starts.

data "aws_caller_identity" "this" {}
data "aws_partition" "this" {}
data "aws_region" "this" {}

locals {
  parameter_arns = [
    for name in sort(distinct(concat(values(var.parameters), [var.halt_parameter]))) : join(":", [
      "arn", data.aws_partition.this.partition, "ssm", data.aws_region.this.id,
      data.aws_caller_identity.this.account_id, "parameter${name}"
    ])
  ]
  references = { for variable, name in var.parameters : variable => "ssm:${name}" }
}

resource "aws_s3_object" "code" {
  bucket      = var.bucket.name
  key         = "function/${var.name}.zip"
  source      = var.code_zip
  source_hash = filesha256(var.code_zip)
}

resource "aws_cloudwatch_log_group" "this" {
  #checkov:skip=CKV_AWS_158:a customer-managed key costs $1 a month; the logs contain no secrets and CloudWatch itself encrypts them

  name              = "/aws/lambda/${var.name}"
  retention_in_days = var.runtime.log_days
}

resource "aws_ssm_parameter" "halt" {
  #checkov:skip=CKV2_AWS_34:a switch, not a secret; anyone with access may see whether trading is halted

  name           = var.halt_parameter
  description    = "false: ${var.name} may trade; anything else halts it. Set by make halt and make resume"
  type           = "String"
  insecure_value = "true" # make deploy starts a new strategy; Terraform itself never does, even if it makes the switch again

  lifecycle {
    # A halted strategy stays halted, whatever is deployed. Not [insecure_value]: an update of any other attribute writes
    # the value too, as it was when the plan was made.
    ignore_changes = all
  }
}

resource "aws_iam_role" "this" {
  name                 = var.name
  description          = "Permissions of ${var.name}"
  permissions_boundary = var.runtime.permissions_boundary
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "lambda.amazonaws.com" }
    }]
  })
}

resource "aws_iam_role_policy" "this" {
  name = "function"
  role = aws_iam_role.this.name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat([
      {
        Sid      = "Log"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = ["${aws_cloudwatch_log_group.this.arn}:*"] # its streams, which Lambda names
      },
      {
        Sid      = "SecretsAndHaltSwitch" # the key alias/aws/ssm lets everyone who may read the parameter decrypt it
        Effect   = "Allow"
        Action   = ["ssm:GetParameters"]
        Resource = local.parameter_arns
      },
      {
        Sid      = "Journal"
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:PutObject"]
        Resource = [for folder in ["runs", "universe", "equity"] : "${var.bucket.arn}/${folder}/${var.strategy}/*"]
      },
      {
        Sid      = "WriteDigest"
        Effect   = "Allow"
        Action   = ["s3:PutObject"]
        Resource = ["${var.bucket.arn}/digests/${var.strategy}/*"]
      },
      {
        Sid      = "ReadDigests" # its own, and whether the other strategies had theirs
        Effect   = "Allow"
        Action   = ["s3:GetObject"]
        Resource = ["${var.bucket.arn}/digests/*"]
      },
      {
        Sid      = "ReadAccounts" # which strategy has which account
        Effect   = "Allow"
        Action   = ["s3:GetObject"]
        Resource = ["${var.bucket.arn}/accounts/*"]
      },
      {
        Sid       = "TakeAccount" # one that no strategy has: only the owner takes an account away from a strategy
        Effect    = "Allow"
        Action    = ["s3:PutObject"]
        Resource  = ["${var.bucket.arn}/accounts/*"]
        Condition = { Null = { "s3:if-none-match" = "false" } }
      },
      {
        Sid      = "TellMissingFromForbidden" # otherwise S3 answers 403 for a missing record; also to find unfinished runs
        Effect   = "Allow"
        Action   = ["s3:ListBucket"]
        Resource = [var.bucket.arn]
      },
      {
        Sid      = "ReportFailures" # and send messages
        Effect   = "Allow"
        Action   = ["sns:Publish"]
        Resource = [var.failure_topic_arn]
      },
      ], var.runtime.tracing ? [{
        Sid      = "Trace"
        Effect   = "Allow"
        Action   = ["xray:PutTelemetryRecords", "xray:PutTraceSegments"]
        Resource = ["*"] # X-Ray has no resources to name; the only wildcard, and only with tracing on
    }] : [])
  })
}

resource "aws_lambda_function" "this" {
  #checkov:skip=CKV_AWS_50:tracing is an option, off by default; a run's record has the seconds of each stage
  #checkov:skip=CKV_AWS_115:a new account may have ten executions in all, none of which can be reserved; claims and order ids keep runs apart
  #checkov:skip=CKV_AWS_116:failed events go to the topic, as the destination in aws_lambda_function_event_invoke_config
  #checkov:skip=CKV_AWS_117:it needs the internet and nothing in a VPC; a NAT gateway would cost more than everything else
  #checkov:skip=CKV_AWS_173:the variables contain references to secrets, not secrets
  #checkov:skip=CKV_AWS_272:IAM decides who may deploy; a signing profile would be one more thing to maintain

  function_name                  = var.name
  description                    = "prophet-trader, strategy ${var.strategy}"
  role                           = aws_iam_role.this.arn
  handler                        = "lambda_function.lambda_handler"
  runtime                        = "python${var.runtime.python}"
  architectures                  = [var.runtime.architecture]
  memory_size                    = var.runtime.memory_mb
  timeout                        = var.runtime.timeout_s
  reserved_concurrent_executions = coalesce(var.runtime.reserved_concurrency, -1)
  layers                         = [var.layer_arn]
  publish                        = true
  s3_bucket                      = aws_s3_object.code.bucket
  s3_key                         = aws_s3_object.code.key
  s3_object_version              = aws_s3_object.code.version_id
  source_code_hash               = filebase64sha256(var.code_zip)
  tags                           = { strategy = var.strategy }

  environment {
    variables = merge(var.environment, local.references, { HALT_PARAMETER = var.halt_parameter })
  }

  logging_config {
    log_group             = aws_cloudwatch_log_group.this.name
    log_format            = "JSON"
    application_log_level = "INFO"
    system_log_level      = "INFO"
  }

  tracing_config {
    mode = var.runtime.tracing ? "Active" : "PassThrough"
  }

  depends_on = [aws_iam_role_policy.this] # a run without its permissions would fail
}

resource "aws_lambda_alias" "live" {
  name             = "live"
  description      = "Started by the schedule; make rollback moves it"
  function_name    = aws_lambda_function.this.function_name
  function_version = aws_lambda_function.this.version
}

# A run that failed or came late is not retried, whether scheduled or started by hand: the next slot has its own run.
resource "aws_lambda_function_event_invoke_config" "this" {
  for_each                     = { live = aws_lambda_alias.live.name, "$LATEST" = "$LATEST" } # the keys are known before it exists: an import needs them
  function_name                = aws_lambda_function.this.function_name
  qualifier                    = each.value
  maximum_retry_attempts       = 0
  maximum_event_age_in_seconds = 60

  destination_config {
    on_failure {
      destination = var.failure_topic_arn
    }
  }
}
