# The alarms of strategies with different schedules, as tests/contract/test_alarms.py evaluates them. No account is needed.

mock_provider "aws" {
  source = "./tests/aws"
}

variables {
  layer_zip    = "tests/zips/layer.zip"
  function_zip = "tests/zips/function.zip"
  strategies = {
    trend    = {}
    hourly   = { schedule = "cron(30 14-20 ? * MON-FRI *)" }
    daily    = { daily_at = "10:00", settings = { MAX_DRAWDOWN_FRACTION = "0.1" } }
    late     = { daily_at = "15:00", drawdown_alarm_fraction = 0.3, settings = { MAX_DRAWDOWN_FRACTION = "0.1" } }
    patient  = { silent_sessions = 4, settings = { MAX_DRAWDOWN_FRACTION = "0" } }
    weekly   = { schedule = "cron(0 15 ? * MON *)" }
    twice    = { schedule = "cron(0 15 ? * 2,THU *)" }
    monthly  = { schedule = "cron(0 15 1 * ? *)" }
    first    = { schedule = "cron(0 15 ? * MON#1 *)" }
    seasonal = { schedule = "cron(0 15 ? JAN MON-FRI *)" }
    always   = { schedule = "cron(0/15 14-20 * * ? *)" }
    off      = { enabled = false }
    unheard  = { silent_sessions = 0 }
  }
}

run "alarms" {
  expect_failures = [check.keys] # no key is stored here

  assert {
    condition     = length(output.strategies) == length(var.strategies)
    error_message = "every strategy should be planned"
  }
}
