# When the function runs: a rule, its target (the alias), and the permission for this rule alone to start it.

locals {
  # The event as it is for a run; for a task, the task and the event's time, which tells what it is due for.
  input_templates = var.task == null ? [] : ["{\"do\": \"${var.task}\", \"time\": <time>}"]
}

resource "aws_cloudwatch_event_rule" "this" {
  name                = var.name
  description         = "Starts ${var.function.name}${var.task == null ? "" : " for its ${var.task}"}"
  schedule_expression = var.expression
  state               = var.enabled ? "ENABLED" : "DISABLED"

  lifecycle {
    precondition {
      condition     = length(local.fields) == 6
      error_message = "schedule ${var.expression}: must be cron(...) with six fields separated by single spaces: minutes, hours (UTC), day of the month, month, day of the week, year; such as cron(0/15 13-21 ? * MON-FRI *)."
    }
    precondition {
      condition     = length(local.wrong) == 0
      error_message = "schedule ${var.expression}: ${join("; ", local.wrong)}."
    }
    precondition {
      condition     = length(local.fields) != 6 || (try(local.fields[2], "") == "?") != (try(local.fields[4], "") == "?")
      error_message = "schedule ${var.expression}: exactly one of the day fields must be ?, day of the month (third) or day of the week (fifth); the other says when."
    }
    precondition {
      condition     = length(local.backward) == 0
      error_message = "schedule ${var.expression}: ${join(", ", local.backward)} runs backward; use two ranges with a comma, such as 22-23,0-2."
    }
  }
}

resource "aws_cloudwatch_event_target" "this" {
  rule      = aws_cloudwatch_event_rule.this.name
  target_id = "function"
  arn       = var.function.alias_arn

  dynamic "input_transformer" {
    for_each = local.input_templates
    content {
      input_paths    = { time = "$.time" }
      input_template = input_transformer.value # EventBridge quotes the time
    }
  }

  retry_policy { # a late event is useless: the next slot has its own event
    maximum_retry_attempts       = 0
    maximum_event_age_in_seconds = 60
  }

  depends_on = [aws_lambda_permission.this] # otherwise the first event would be denied
}

resource "aws_lambda_permission" "this" {
  statement_id  = coalesce(var.task, "schedule")
  action        = "lambda:InvokeFunction"
  function_name = var.function.name
  qualifier     = var.function.alias
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.this.arn
}
