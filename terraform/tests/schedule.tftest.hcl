# Schedules: those that AWS accepts, and those that it would refuse at apply or, worse, accept and never fire.

mock_provider "aws" {
  source = "./tests/aws"
}

variables {
  enabled  = true
  function = { name = "prophet-trader-trend", alias = "live", alias_arn = "arn:aws:lambda:eu-central-1:123456789012:function:prophet-trader-trend:live" }
  name     = "prophet-trader-trend"
}

run "off_is_off" {
  command = plan
  module {
    source = "./modules/schedule"
  }
  variables {
    enabled    = false
    expression = "cron(0/15 13-21 ? * MON-FRI *)"
  }
  assert {
    condition     = aws_cloudwatch_event_rule.this.state == "DISABLED"
    error_message = "a disabled schedule should not fire"
  }
}

run "a_run_gets_the_event_as_it_is" {
  command = plan
  module {
    source = "./modules/schedule"
  }
  variables {
    expression = "cron(0/15 13-21 ? * MON-FRI *)"
  }
  assert {
    condition     = length(aws_cloudwatch_event_target.this.input_transformer) == 0
    error_message = "the whole event should reach the function"
  }
}

run "a_task_is_named_with_the_time_of_its_event" {
  command = plan
  module {
    source = "./modules/schedule"
  }
  variables {
    expression = "cron(15 20,21 ? * MON-FRI *)"
    task       = "digest"
  }
  assert {
    condition = [for its in aws_cloudwatch_event_target.this.input_transformer : { paths = its.input_paths, template = its.input_template }] == [
      { paths = tomap({ time = "$.time" }), template = "{\"do\": \"digest\", \"time\": <time>}" }
    ]
    error_message = "the function should learn what to do, and what it is due for"
  }
  assert {
    condition     = aws_lambda_permission.this.statement_id == "digest"
    error_message = "a second permission of the same function should have a name of its own"
  }
}

run "good_1" {
  command = plan
  module {
    source = "./modules/schedule"
  }
  variables {
    expression = "cron(0/15 13-21 ? * MON-FRI *)"
  }
  assert {
    condition     = aws_cloudwatch_event_rule.this.schedule_expression == var.expression && aws_cloudwatch_event_rule.this.state == "ENABLED"
    error_message = "the rule should have exactly this expression"
  }
}

run "good_2" {
  command = plan
  module {
    source = "./modules/schedule"
  }
  variables {
    expression = "cron(0 19,20 ? * MON-FRI *)"
  }
  assert {
    condition     = aws_cloudwatch_event_rule.this.schedule_expression == var.expression && aws_cloudwatch_event_rule.this.state == "ENABLED"
    error_message = "the rule should have exactly this expression"
  }
}

run "good_3" {
  command = plan
  module {
    source = "./modules/schedule"
  }
  variables {
    expression = "cron(5 10 1 * ? *)"
  }
  assert {
    condition     = aws_cloudwatch_event_rule.this.schedule_expression == var.expression && aws_cloudwatch_event_rule.this.state == "ENABLED"
    error_message = "the rule should have exactly this expression"
  }
}

run "good_4" {
  command = plan
  module {
    source = "./modules/schedule"
  }
  variables {
    expression = "cron(0 8 ? * 2#1 *)"
  }
  assert {
    condition     = aws_cloudwatch_event_rule.this.schedule_expression == var.expression && aws_cloudwatch_event_rule.this.state == "ENABLED"
    error_message = "the rule should have exactly this expression"
  }
}

run "good_5" {
  command = plan
  module {
    source = "./modules/schedule"
  }
  variables {
    expression = "cron(0 8 L * ? *)"
  }
  assert {
    condition     = aws_cloudwatch_event_rule.this.schedule_expression == var.expression && aws_cloudwatch_event_rule.this.state == "ENABLED"
    error_message = "the rule should have exactly this expression"
  }
}

run "good_6" {
  command = plan
  module {
    source = "./modules/schedule"
  }
  variables {
    expression = "cron(0 8 15W JAN-JUN/2 ? 2026-2030)"
  }
  assert {
    condition     = aws_cloudwatch_event_rule.this.schedule_expression == var.expression && aws_cloudwatch_event_rule.this.state == "ENABLED"
    error_message = "the rule should have exactly this expression"
  }
}

run "good_7" {
  command = plan
  module {
    source = "./modules/schedule"
  }
  variables {
    expression = "cron(*/10 0-23/2 ? 1,7 6L *)"
  }
  assert {
    condition     = aws_cloudwatch_event_rule.this.schedule_expression == var.expression && aws_cloudwatch_event_rule.this.state == "ENABLED"
    error_message = "the rule should have exactly this expression"
  }
}

run "five_fields_are_refused" {
  command = plan
  module {
    source = "./modules/schedule"
  }
  variables {
    expression = "cron(0/15 13-21 ? * MON-FRI)"
  }
  expect_failures = [aws_cloudwatch_event_rule.this]
}

run "seven_fields_are_refused" {
  command = plan
  module {
    source = "./modules/schedule"
  }
  variables {
    expression = "cron(0 0/15 13-21 ? * MON-FRI *)"
  }
  expect_failures = [aws_cloudwatch_event_rule.this]
}

run "unix_cron_is_refused" {
  command = plan
  module {
    source = "./modules/schedule"
  }
  variables {
    expression = "0/15 13-21 * * 1-5"
  }
  expect_failures = [aws_cloudwatch_event_rule.this]
}

run "a_rate_is_refused" {
  command = plan
  module {
    source = "./modules/schedule"
  }
  variables {
    expression = "rate(15 minutes)"
  }
  expect_failures = [aws_cloudwatch_event_rule.this]
}

run "minute_60_is_refused" {
  command = plan
  module {
    source = "./modules/schedule"
  }
  variables {
    expression = "cron(60 13 ? * MON-FRI *)"
  }
  expect_failures = [aws_cloudwatch_event_rule.this]
}

run "hour_24_is_refused" {
  command = plan
  module {
    source = "./modules/schedule"
  }
  variables {
    expression = "cron(0 24 ? * MON-FRI *)"
  }
  expect_failures = [aws_cloudwatch_event_rule.this]
}

run "day_32_is_refused" {
  command = plan
  module {
    source = "./modules/schedule"
  }
  variables {
    expression = "cron(0 13 32 * ? *)"
  }
  expect_failures = [aws_cloudwatch_event_rule.this]
}

run "month_13_is_refused" {
  command = plan
  module {
    source = "./modules/schedule"
  }
  variables {
    expression = "cron(0 13 1 13 ? *)"
  }
  expect_failures = [aws_cloudwatch_event_rule.this]
}

run "day_of_the_week_0_is_refused" {
  command = plan
  module {
    source = "./modules/schedule"
  }
  variables {
    expression = "cron(0 13 ? * 0-4 *)"
  }
  expect_failures = [aws_cloudwatch_event_rule.this]
}

run "an_unknown_day_is_refused" {
  command = plan
  module {
    source = "./modules/schedule"
  }
  variables {
    expression = "cron(0 13 ? * MONDAY *)"
  }
  expect_failures = [aws_cloudwatch_event_rule.this]
}

run "year_1969_is_refused" {
  command = plan
  module {
    source = "./modules/schedule"
  }
  variables {
    expression = "cron(0 13 ? * MON 1969)"
  }
  expect_failures = [aws_cloudwatch_event_rule.this]
}

run "both_day_fields_set_are_refused" {
  command = plan
  module {
    source = "./modules/schedule"
  }
  variables {
    expression = "cron(0 13 * * MON-FRI *)"
  }
  expect_failures = [aws_cloudwatch_event_rule.this]
}

run "no_day_field_set_is_refused" {
  command = plan
  module {
    source = "./modules/schedule"
  }
  variables {
    expression = "cron(0 13 ? * ? *)"
  }
  expect_failures = [aws_cloudwatch_event_rule.this]
}

run "a_backward_range_is_refused" {
  command = plan
  module {
    source = "./modules/schedule"
  }
  variables {
    expression = "cron(0 21-13 ? * MON-FRI *)"
  }
  expect_failures = [aws_cloudwatch_event_rule.this]
}

run "step_0_is_refused" {
  command = plan
  module {
    source = "./modules/schedule"
  }
  variables {
    expression = "cron(0/0 13 ? * MON-FRI *)"
  }
  expect_failures = [aws_cloudwatch_event_rule.this]
}

run "question_mark_for_the_hour_is_refused" {
  command = plan
  module {
    source = "./modules/schedule"
  }
  variables {
    expression = "cron(0 ? ? * MON *)"
  }
  expect_failures = [aws_cloudwatch_event_rule.this]
}

run "an_empty_field_is_refused" {
  command = plan
  module {
    source = "./modules/schedule"
  }
  variables {
    expression = "cron(0  ? * MON-FRI *)"
  }
  expect_failures = [aws_cloudwatch_event_rule.this]
}

run "an_empty_expression_is_refused" {
  command = plan
  module {
    source = "./modules/schedule"
  }
  variables {
    expression = ""
  }
  expect_failures = [aws_cloudwatch_event_rule.this]
}
