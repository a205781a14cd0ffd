# The metric filters and alarms of two strategies, as tests/contract/test_alarms.py evaluates them. No account is needed.

mock_provider "aws" {
  source = "./tests/aws"
}

variables {
  layer_zip    = "tests/zips/layer.zip"
  function_zip = "tests/zips/function.zip"
  strategies   = { trend = {}, interval = { daily_at = "15:00" } }
}

run "alarms" {
  assert {
    condition     = length(output.strategies) == length(var.strategies)
    error_message = "every strategy should be planned"
  }
  assert {
    condition     = output.strategies.trend.environment.MESSAGE_TOPIC == output.alarm_topic_arn
    error_message = "the topic's ARN that a plan knows should be the topic's"
  }
}
