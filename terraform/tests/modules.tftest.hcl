# The modules, one by one: their conditionals and the inputs that they refuse.

mock_provider "aws" {
  source = "./tests/aws"
}

# --- layer ---

run "a_verified_layer_is_accepted" {
  command = plan
  module {
    source = "./modules/layer"
  }
  variables {
    architecture = "arm64"
    bucket       = "bucket"
    name         = "layer"
    python       = "3.13"
    zip          = "tests/zips/layer.zip"
  }
  assert {
    condition     = aws_lambda_layer_version.this.compatible_architectures == toset(["arm64"]) && aws_lambda_layer_version.this.compatible_runtimes == toset(["python3.13"])
    error_message = "the layer should name its Python version and architecture"
  }
}

run "a_missing_layer_is_refused" {
  command = plan
  module {
    source = "./modules/layer"
  }
  variables {
    architecture = "x86_64"
    bucket       = "bucket"
    name         = "layer"
    python       = "3.13"
    zip          = "tests/zips/nothing.zip"
  }
  expect_failures = [var.zip]
}

run "a_tampered_layer_is_refused" {
  command = plan
  module {
    source = "./modules/layer"
  }
  variables {
    architecture = "x86_64"
    bucket       = "bucket"
    name         = "layer"
    python       = "3.13"
    zip          = "tests/zips/tampered.zip"
  }
  expect_failures = [var.zip]
}

run "an_unverified_layer_is_refused" {
  command = plan
  module {
    source = "./modules/layer"
  }
  variables {
    architecture = "x86_64"
    bucket       = "bucket"
    name         = "layer"
    python       = "3.13"
    zip          = "tests/zips/without-manifest.zip"
  }
  expect_failures = [var.zip]
}

run "an_oversized_layer_is_refused" {
  command = plan
  module {
    source = "./modules/layer"
  }
  variables {
    architecture = "x86_64"
    bucket       = "bucket"
    name         = "layer"
    python       = "3.13"
    zip          = "tests/zips/too-large.zip"
  }
  expect_failures = [var.zip]
}

run "a_layer_for_an_unsupported_python_or_architecture_is_refused" {
  command = plan
  module {
    source = "./modules/layer"
  }
  variables {
    architecture = "mips"
    bucket       = "bucket"
    name         = "layer"
    python       = "3.12"
    zip          = "tests/zips/layer.zip"
  }
  expect_failures = [var.python, var.architecture]
}

# --- function ---

run "a_function_with_the_defaults" {
  module {
    source = "./modules/function"
  }
  variables {
    bucket            = { name = "bucket", arn = "arn:aws:s3:::bucket" }
    code_zip          = "tests/zips/function.zip"
    environment       = { STRATEGY = "trend" }
    failure_topic_arn = "arn:aws:sns:eu-central-1:123456789012:prophet-trader-alarms"
    halt_parameter    = "/prophet-trader/trend/halt"
    layer_arn         = "arn:aws:lambda:eu-central-1:123456789012:layer:prophet-trader-layer:1"
    name              = "prophet-trader-trend"
    parameters        = { ALPACAPW = "/prophet-trader/trend/alpacapw" }
    runtime           = { python = "3.13", architecture = "x86_64", memory_mb = 1024, timeout_s = 300, log_days = 400, tracing = false }
    strategy          = "trend"
  }
  assert {
    condition     = aws_lambda_function.this.tracing_config[0].mode == "PassThrough"
    error_message = "tracing should be off"
  }
  assert {
    condition     = aws_lambda_function.this.reserved_concurrent_executions == -1
    error_message = "no execution should be reserved"
  }
  assert {
    condition     = aws_iam_role.this.permissions_boundary == null
    error_message = "the role should have no boundary"
  }
  assert {
    condition     = alltrue([for statement in jsondecode(aws_iam_role_policy.this.policy).Statement : !contains(flatten([statement.Resource]), "*")])
    error_message = "no statement should be for all resources"
  }
  assert {
    condition = [for statement in jsondecode(aws_iam_role_policy.this.policy).Statement : statement.Resource if statement.Sid == "SecretsAndHaltSwitch"][0] == [
      "arn:aws:ssm:eu-central-1:123456789012:parameter/prophet-trader/trend/alpacapw",
      "arn:aws:ssm:eu-central-1:123456789012:parameter/prophet-trader/trend/halt",
    ]
    error_message = "exactly the given parameters should be readable"
  }
  assert {
    condition     = toset(keys(aws_lambda_function_event_invoke_config.this)) == toset(["live", "$LATEST"])
    error_message = "no invocation should be retried, however it was started"
  }
}

run "a_function_with_everything_switched_on" {
  module {
    source = "./modules/function"
  }
  variables {
    bucket            = { name = "bucket", arn = "arn:aws:s3:::bucket" }
    code_zip          = "tests/zips/function.zip"
    environment       = {}
    failure_topic_arn = "arn:aws:sns:eu-central-1:123456789012:prophet-trader-alarms"
    halt_parameter    = "/prophet-trader/trend/halt"
    layer_arn         = "arn:aws:lambda:eu-central-1:123456789012:layer:prophet-trader-layer:1"
    name              = "prophet-trader-trend"
    parameters        = {}
    runtime = {
      python               = "3.13", architecture = "arm64", memory_mb = 512, timeout_s = 200, log_days = 30, tracing = true
      reserved_concurrency = 1, permissions_boundary = "arn:aws:iam::123456789012:policy/boundary"
    }
    strategy = "trend"
  }
  assert {
    condition     = aws_lambda_function.this.tracing_config[0].mode == "Active" && strcontains(aws_iam_role_policy.this.policy, "xray:PutTraceSegments")
    error_message = "tracing should be on, with the permission to send traces"
  }
  assert {
    condition     = aws_lambda_function.this.reserved_concurrent_executions == 1
    error_message = "one execution should be reserved"
  }
  assert {
    condition     = aws_iam_role.this.permissions_boundary == "arn:aws:iam::123456789012:policy/boundary"
    error_message = "the role should have the boundary"
  }
}

run "a_missing_zip_and_invalid_inputs_are_refused" {
  command = plan
  module {
    source = "./modules/function"
  }
  variables {
    bucket            = { name = "bucket", arn = "arn:aws:s3:::bucket" }
    code_zip          = "tests/zips/nothing.zip"
    environment       = {}
    failure_topic_arn = "arn"
    halt_parameter    = "halt"
    layer_arn         = "arn"
    name              = "no spaces"
    parameters        = { ALPACAPW = "ssm:/with/the/prefix" }
    runtime           = { python = "3.13", architecture = "x86_64", memory_mb = 128, timeout_s = 100, log_days = 30, tracing = false, reserved_concurrency = 0 }
    strategy          = "trend"
  }
  expect_failures = [var.code_zip, var.halt_parameter, var.name, var.parameters, var.runtime]
}

# --- monitoring ---

run "without_an_address_there_is_no_subscription" {
  module {
    source = "./modules/monitoring"
  }
  variables {
    project    = "prophet-trader"
    queries    = { orders = "fields @timestamp" }
    strategies = { trend = { function_name = "prophet-trader-trend", log_group = "/aws/lambda/prophet-trader-trend", rule_name = "prophet-trader-trend" } }
  }
  assert {
    condition     = length(aws_sns_topic_subscription.email) == 0
    error_message = "nobody should be subscribed"
  }
}

run "ten_strategies_need_no_more_metrics_alarms_and_dashboards_than_one" {
  module {
    source = "./modules/monitoring"
  }
  variables {
    project    = "prophet-trader"
    queries    = {}
    strategies = { for number in range(10) : "number-${number}" => { function_name = "function-${number}", log_group = "log-${number}", rule_name = "rule-${number}" } }
  }
  assert {
    condition     = toset([for filter in values(aws_cloudwatch_log_metric_filter.this) : filter.metric_transformation[0].name]) == toset(["Digests", "Unsent"])
    error_message = "all strategies should share two metrics, of CloudWatch's ten free ones"
  }
  assert {
    condition     = alltrue([for filter in values(aws_cloudwatch_log_metric_filter.this) : length(coalesce(filter.metric_transformation[0].dimensions, {})) == 0])
    error_message = "a dimension would make a metric of each value"
  }
  assert {
    condition     = length(aws_cloudwatch_log_metric_filter.this) == 20
    error_message = "the log of each strategy should feed both metrics"
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.unsent.alarm_name == "prophet-trader-unsent" && aws_cloudwatch_metric_alarm.silent[*].alarm_name == ["prophet-trader-silent"]
    error_message = "there should be two alarms for the whole installation"
  }
  assert {
    condition     = sum([for widget in jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets : length(try(widget.properties.metrics, []))]) <= 50
    error_message = "a dashboard with more than fifty metrics is not free"
  }
}

run "with_every_strategy_off_silence_is_no_alarm" {
  module {
    source = "./modules/monitoring"
  }
  variables {
    project    = "prophet-trader"
    queries    = {}
    strategies = { off = { function_name = "off", log_group = "off", rule_name = "off", enabled = false } }
  }
  assert {
    condition     = length(aws_cloudwatch_metric_alarm.silent) == 0
    error_message = "nothing should be expected of strategies that are off"
  }
}

run "an_address_is_subscribed" {
  module {
    source = "./modules/monitoring"
  }
  variables {
    alarm_email = "me@example.com"
    project     = "prophet-trader"
    queries     = {}
    strategies  = { trend = { function_name = "prophet-trader-trend", log_group = "/aws/lambda/prophet-trader-trend", rule_name = "prophet-trader-trend" } }
  }
  assert {
    condition     = aws_sns_topic_subscription.email[0].endpoint == "me@example.com"
    error_message = "alarms should go to the address"
  }
}

run "an_invalid_address_is_refused" {
  command = plan
  module {
    source = "./modules/monitoring"
  }
  variables {
    alarm_email = "me"
    project     = "prophet-trader"
    queries     = {}
    strategies  = {}
  }
  expect_failures = [var.alarm_email]
}

# --- artifact bucket ---

run "a_bucket_name_that_aws_would_refuse_is_refused" {
  command = plan
  module {
    source = "./modules/artifact_bucket"
  }
  variables {
    name           = "My_Bucket"
    retention_days = 0.5
  }
  expect_failures = [var.name, var.retention_days]
}

run "a_bucket_with_a_journal_is_not_deleted" {
  command = plan
  module {
    source = "./modules/artifact_bucket"
  }
  variables {
    name           = "the-bucket"
    retention_days = 30
  }
  assert {
    condition     = aws_s3_bucket.this.force_destroy == false
    error_message = "S3 should refuse to delete a bucket that is not empty"
  }
}

run "a_bucket_whose_journal_is_given_up_can_be_deleted" {
  command = plan
  module {
    source = "./modules/artifact_bucket"
  }
  variables {
    name           = "the-bucket"
    retention_days = 30
    delete_journal = true
  }
  assert {
    condition     = aws_s3_bucket.this.force_destroy
    error_message = "the provider should empty the bucket"
  }
}

run "without_a_lock_the_bucket_has_none" {
  command = plan
  module {
    source = "./modules/artifact_bucket"
  }
  variables {
    name           = "the-bucket"
    retention_days = 30
  }
  assert {
    condition     = length(aws_s3_bucket_object_lock_configuration.this) == 0
    error_message = "a lock cannot be undone, so nobody should get one unasked"
  }
}

run "a_lock_keeps_each_version_for_its_days" {
  command = plan
  module {
    source = "./modules/artifact_bucket"
  }
  variables {
    name           = "the-bucket"
    retention_days = 30
    lock           = { days = 30 }
  }
  assert {
    condition     = aws_s3_bucket_object_lock_configuration.this[0].rule[0].default_retention[0].days == 30
    error_message = "every version should be locked for 30 days"
  }
  assert {
    condition     = aws_s3_bucket_object_lock_configuration.this[0].rule[0].default_retention[0].mode == "GOVERNANCE"
    error_message = "nobody should get the mode that not even the account's owner can lift unasked"
  }
}

run "a_lock_longer_than_the_journal_is_refused" {
  command = plan
  module {
    source = "./modules/artifact_bucket"
  }
  variables {
    name           = "the-bucket"
    retention_days = 30
    lock           = { days = 31 }
  }
  expect_failures = [var.lock]
}

run "a_mode_that_s3_does_not_have_is_refused" {
  command = plan
  module {
    source = "./modules/artifact_bucket"
  }
  variables {
    name           = "the-bucket"
    retention_days = 30
    lock           = { days = 30, mode = "strict" }
  }
  expect_failures = [var.lock]
}
