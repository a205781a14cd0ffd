# The root: its defaults, what it derives for each strategy, and what it refuses. No account is needed.

mock_provider "aws" {
  source = "./tests/aws"
}

variables {
  layer_zip    = "tests/zips/layer.zip"
  function_zip = "tests/zips/function.zip"
}

run "nothing_has_to_be_set" {
  command = plan

  assert {
    condition     = keys(output.strategies) == ["trend"]
    error_message = "without variables there should be one strategy, trend"
  }
  assert {
    condition     = output.strategies.trend.schedule == "cron(0/15 13-21 ? * MON-FRI *)"
    error_message = "the schedule should be the default"
  }
  assert {
    condition = jsonencode(output.strategies.trend.environment) == jsonencode({
      ALPACAPW        = "ssm:/prophet-trader/trend/alpacapw"
      ALPACAUSER      = "ssm:/prophet-trader/trend/alpacauser"
      BROKER          = "alpaca"
      HALT_PARAMETER  = "/prophet-trader/trend/halt"
      JOURNAL         = "s3://prophet-trader-123456789012-eu-central-1"
      MESSAGE_TOPIC   = "arn:aws:sns:eu-central-1:123456789012:prophet-trader-alarms"
      MESSAGE_URL     = "ssm:/prophet-trader/trend/message_url"
      MODE            = "paper"
      PRICE_SOURCES   = "yahoo,alpaca"
      SILENT_SESSIONS = "2"
      STRATEGY        = "trend"
    })
    error_message = "the default should be paper money, references instead of secrets, a journal in the bucket"
  }
}

run "strategies_share_no_name" {
  command = plan
  variables {
    strategies = { trend = {}, interval = { settings = { SIGNAL = "interval" } } }
  }

  assert {
    condition     = length(setintersection(output.strategies.trend.parameters, output.strategies.interval.parameters)) == 0
    error_message = "each strategy should have its own keys"
  }
  assert {
    condition = alltrue([for field in ["function_name", "log_group", "halt_parameter"] :
      output.strategies.trend[field] != output.strategies.interval[field]
    ])
    error_message = "each strategy should have its own function, log and switch"
  }
  assert {
    condition     = output.strategies.interval.environment.STRATEGY == "interval" && output.strategies.interval.environment.SIGNAL == "interval"
    error_message = "settings should reach their strategy"
  }
  assert {
    condition     = !can(output.strategies.trend.environment.SIGNAL)
    error_message = "settings should reach no other strategy"
  }
}

run "the_address_of_messages_need_not_exist" {
  command = plan
  assert {
    condition     = output.strategies.trend.parameters == tolist(["/prophet-trader/trend/alpacapw", "/prophet-trader/trend/alpacauser"])
    error_message = "only the keys must exist"
  }
}

run "the_address_of_messages_can_be_elsewhere_in_ssm" {
  command = plan
  variables {
    strategies = { trend = { parameters = { MESSAGE_URL = "/shared/address" } } }
  }
  assert {
    condition     = output.strategies.trend.environment.MESSAGE_URL == "ssm:/shared/address"
    error_message = "the function should get the reference"
  }
}

run "the_address_of_messages_in_plain_settings_is_refused" {
  command = plan
  variables {
    strategies = { trend = { settings = { MESSAGE_URL = "ntfy://ntfy.sh/mine" } } }
  }
  expect_failures = [var.strategies]
}

run "another_topic_is_refused" {
  command = plan
  variables {
    strategies = { trend = { settings = { MESSAGE_TOPIC = "arn:aws:sns:eu-central-1:123456789012:mine" } } }
  }
  expect_failures = [var.strategies]
}

run "strategies_watch_the_others_that_are_on" {
  command         = plan
  expect_failures = [check.keys] # some have none
  variables {
    strategies = { trend = {}, interval = {}, etfs = {}, off = { enabled = false } }
  }
  assert {
    condition = { for name, its in output.strategies : name => its.environment.WATCH } == {
      trend = "etfs,interval", interval = "etfs,trend", etfs = "interval,trend", off = "etfs,interval,trend"
    }
    error_message = "each should watch the others, but none that is off"
  }
}

run "the_limit_of_drawdown_is_the_bots_own_unless_set" {
  command = plan
  variables {
    strategies = { trend = { settings = { MAX_DRAWDOWN_FRACTION = "0.1" } }, interval = { drawdown_alarm_fraction = 0.3 } }
  }
  assert {
    condition     = !can(output.strategies.trend.environment.DRAWDOWN_MESSAGE_FRACTION)
    error_message = "the function should take its own limit"
  }
  assert {
    condition     = output.strategies.interval.environment.DRAWDOWN_MESSAGE_FRACTION == "0.3"
    error_message = "the function should be given the limit of the strategy"
  }
}

run "a_schedule_decides_after_how_many_sessions_it_is_silent" {
  command         = plan
  expect_failures = [check.keys] # some have none
  variables {
    strategies = merge(
      { for name, schedule in {
        numbers      = "cron(0 15 ? * 2-6 *)"
        list         = "cron(0 15 ? * MON,TUE,WED,THU,FRI *)"
        all-days     = "cron(0 15 * * ? *)"
        all-weekdays = "cron(0 15 ? * * *)"
        steps        = "cron(0 15 ? * 2/1 *)"
        afternoon    = "cron(0/15 17-19 ? * MON-FRI *)"
        monday       = "cron(0 15 ? * MON *)"
        every-other  = "cron(0 15 ? * 2-6/2 *)"
        last-friday  = "cron(0 15 ? * 6L *)"
        second       = "cron(0 15 ? * MON#2 *)"
        first        = "cron(0 15 1 * ? *)"
        january      = "cron(0 15 ? 1 MON-FRI *)"
        one-year     = "cron(0 15 ? * MON-FRI 2027)"
      } : name => { schedule = schedule } },
      { morning = { daily_at = "10:00" }, late = { daily_at = "15:00" } },
    )
  }
  assert {
    condition = { for name, its in output.strategies : name => tonumber(its.environment.SILENT_SESSIONS) } == {
      numbers = 2, list = 2, all-days = 2, all-weekdays = 2, steps = 2, morning = 2, afternoon = 3, late = 3
      monday  = 0, every-other = 0, last-friday = 0, second = 0, first = 0, january = 0, one-year = 0
    }
    error_message = "every weekday means two sessions, or three after 13:00; with fewer days nothing is expected of a session"
  }
}

run "the_sessions_of_silence_can_be_set" {
  command         = plan
  expect_failures = [check.keys] # some have none
  variables {
    strategies = { patient = { silent_sessions = 4 }, unheard = { silent_sessions = 0 }, weekly = { schedule = "cron(0 15 ? * MON *)", silent_sessions = 4 } }
  }
  assert {
    condition     = { for name, its in output.strategies : name => its.environment.SILENT_SESSIONS } == { patient = "4", unheard = "0", weekly = "4" }
    error_message = "what is set should be what the function is given"
  }
}

run "a_setting_replaces_a_default" {
  command = plan
  variables {
    strategies = { trend = { settings = { PRICE_SOURCES = "alpaca" } } }
  }
  assert {
    condition     = output.strategies.trend.environment.PRICE_SOURCES == "alpaca"
    error_message = "the user's price sources should replace the default"
  }
}

run "a_setting_can_come_from_ssm" {
  command = plan
  variables {
    strategies = { trend = { parameters = { MAX_ORDER_USD = "/shared/cap" } } }
  }
  assert {
    condition     = output.strategies.trend.environment.MAX_ORDER_USD == "ssm:/shared/cap"
    error_message = "the function should get the reference"
  }
  assert {
    condition     = contains(output.strategies.trend.parameters, "/shared/cap")
    error_message = "the output should list the parameter"
  }
}

run "a_daily_time_in_new_york_becomes_two_utc_hours" {
  command = plan
  variables {
    strategies = { trend = { daily_at = "15:00" } }
  }
  assert {
    condition     = output.strategies.trend.schedule == "cron(0 19,20 ? * MON-FRI *)"
    error_message = "3 p.m. in New York should be 19:00 UTC in summer, 20:00 in winter"
  }
  assert {
    condition     = output.strategies.trend.environment.DAILY_AT == "15:00"
    error_message = "the function should know the New York time"
  }
}

run "a_confirmed_live_strategy_is_live" {
  command = plan
  variables {
    strategies      = { trend = { mode = "live" } }
    live_strategies = ["trend"]
  }
  assert {
    condition     = output.strategies.trend.environment.MODE == "live"
    error_message = "a confirmed strategy should be live"
  }
}

run "an_unconfirmed_live_strategy_is_refused" {
  command = plan
  variables {
    strategies = { trend = { mode = "live" } }
  }
  expect_failures = [var.strategies]
}

run "confirming_another_strategy_is_not_enough" {
  command = plan
  variables {
    strategies      = { trend = { mode = "live" }, other = {} }
    live_strategies = ["other"]
  }
  expect_failures = [var.strategies]
}

run "confirming_an_unknown_strategy_is_refused" {
  command = plan
  variables {
    live_strategies = ["ternd"]
  }
  expect_failures = [var.strategies]
}

run "mode_as_a_setting_is_refused" {
  command = plan
  variables {
    strategies = { trend = { settings = { MODE = "live" } } }
  }
  expect_failures = [var.strategies]
}

run "more_sessions_than_a_week_has_are_refused" {
  command = plan
  variables {
    strategies = { trend = { silent_sessions = 5 } }
  }
  expect_failures = [var.strategies]
}

run "half_a_session_is_refused" {
  command = plan
  variables {
    strategies = { trend = { silent_sessions = 1.5 } }
  }
  expect_failures = [var.strategies]
}

run "a_drawdown_in_percent_is_refused" {
  command = plan
  variables {
    strategies = { trend = { drawdown_alarm_fraction = 20 } }
  }
  expect_failures = [var.strategies]
}

run "a_drawdown_of_nothing_is_refused" {
  command = plan
  variables {
    strategies = { trend = { drawdown_alarm_fraction = 0 } }
  }
  expect_failures = [var.strategies]
}

run "an_unknown_mode_is_refused" {
  command = plan
  variables {
    strategies = { trend = { mode = "real" } }
  }
  expect_failures = [var.strategies]
}

run "an_empty_map_of_strategies_is_refused" {
  command = plan
  variables {
    strategies = {}
  }
  expect_failures = [var.strategies]
}

run "a_name_that_aws_would_refuse_is_refused" {
  command = plan
  variables {
    strategies = { "My Strategy" = {} }
  }
  expect_failures = [var.strategies]
}

run "a_strategy_called_all_is_refused" {
  command = plan
  variables {
    strategies = { all = {} }
  }
  expect_failures = [var.strategies]
}

run "a_strategy_named_like_a_ci_role_is_refused" {
  command = plan
  variables {
    strategies = { ci-deploy = {} }
  }
  expect_failures = [var.strategies]
}

run "a_name_that_is_too_long_is_refused" {
  command = plan
  variables {
    strategies = { abcdefghijklmnopqrstuvwxyzabcdefg = {} }
  }
  expect_failures = [var.strategies]
}

run "two_strategies_on_one_account_are_refused" {
  command = plan
  variables {
    strategies = {
      trend    = {}
      interval = { parameters = { ALPACAUSER = "/prophet-trader/trend/alpacauser" } }
    }
  }
  expect_failures = [var.strategies]
}

run "two_strategies_with_one_custom_key_parameter_are_refused" {
  command = plan
  variables {
    strategies = {
      trend    = { parameters = { ALPACAPW = "/mine/pw" } }
      interval = { parameters = { ALPACAPW = "/mine/pw" } }
    }
  }
  expect_failures = [var.strategies]
}

run "another_journal_is_refused" {
  command = plan
  variables {
    strategies = { trend = { settings = { JOURNAL = "s3://elsewhere" } } }
  }
  expect_failures = [var.strategies]
}

run "a_secret_in_plain_settings_is_refused" {
  command = plan
  variables {
    strategies = { trend = { settings = { ALPACAPW = "in the clear" } } }
  }
  expect_failures = [var.strategies]
}

run "a_reference_in_plain_settings_is_refused" {
  command = plan
  variables {
    strategies = { trend = { settings = { MAX_ORDER_USD = "ssm:/shared/cap" } } }
  }
  expect_failures = [var.strategies]
}

run "a_variable_in_settings_and_parameters_is_refused" {
  command = plan
  variables {
    strategies = { trend = { settings = { MAX_ORDER_USD = "5" }, parameters = { MAX_ORDER_USD = "/cap" } } }
  }
  expect_failures = [var.strategies]
}

run "a_variable_reserved_for_lambda_is_refused" {
  command = plan
  variables {
    strategies = { trend = { settings = { AWS_REGION = "us-west-2" } } }
  }
  expect_failures = [var.strategies]
}

run "a_setting_in_lower_case_is_refused" {
  command = plan
  variables {
    strategies = { trend = { settings = { max_order_usd = "5" } } }
  }
  expect_failures = [var.strategies]
}

run "a_daily_time_outside_the_session_is_refused" {
  command = plan
  variables {
    strategies = { trend = { daily_at = "16:00" } }
  }
  expect_failures = [var.strategies]
}

run "a_retention_that_cloudwatch_does_not_offer_is_refused" {
  command = plan
  variables {
    retention_days = 100
  }
  expect_failures = [var.retention_days]
}

run "a_project_name_that_ssm_would_refuse_is_refused" {
  command = plan
  variables {
    project = "aws-trader"
  }
  expect_failures = [var.project]
}

run "the_bucket_can_have_another_name" {
  command = plan
  variables {
    bucket_name = "another-name-for-it"
  }
  assert {
    condition     = output.strategies.trend.environment.JOURNAL == "s3://another-name-for-it"
    error_message = "the journal should go to that bucket"
  }
}

run "a_parameter_outside_the_boundary_is_refused" {
  command = plan
  variables {
    permissions_boundary = "arn:aws:iam::123456789012:policy/prophet-trader-boundary"
    strategies           = { trend = { parameters = { MAX_ORDER_USD = "/shared/cap" } } }
  }
  expect_failures = [var.strategies]
}

# --- settings, as users of Terraform without make write them ---

run "an_unknown_setting_is_refused" {
  command = plan
  variables {
    strategies = { trend = { settings = { UNIVERS = "AAPL" } } }
  }
  expect_failures = [var.strategies]
}

run "an_unknown_value_of_a_setting_is_refused" {
  command = plan
  variables {
    strategies = { trend = { settings = { SIGNAL = "trends" } } }
  }
  expect_failures = [var.strategies]
}

run "a_rule_of_ones_own_is_a_file_with_parameters" {
  command = plan
  variables {
    strategies = { trend = { settings = { SIGNAL = "rules/golden_cross.py", RULE_DAYS = "20" } } }
  }
  assert {
    condition     = output.strategies.trend.environment.SIGNAL == "rules/golden_cross.py" && output.strategies.trend.environment.RULE_DAYS == "20"
    error_message = "the rule's file and its parameter should reach the function"
  }
}

run "a_rule_elsewhere_than_in_rules_is_refused" {
  command = plan
  variables {
    strategies = { trend = { settings = { SIGNAL = "../golden_cross.py" } } }
  }
  expect_failures = [var.strategies]
}

run "a_parameter_of_no_rule_is_refused" {
  command = plan
  variables {
    strategies = { trend = { settings = { RULE_DAYS = "20" } } }
  }
  expect_failures = [var.strategies]
}

run "a_number_out_of_bounds_is_refused" {
  command = plan
  variables {
    strategies = { trend = { settings = { HISTORY_BARS = "12" } } }
  }
  expect_failures = [var.strategies]
}

run "a_word_instead_of_a_number_is_refused" {
  command = plan
  variables {
    strategies = { trend = { settings = { MAX_ORDER_USD = "much" } } }
  }
  expect_failures = [var.strategies]
}

run "half_an_order_is_refused" {
  command = plan
  variables {
    strategies = { trend = { settings = { MAX_ORDERS_PER_RUN = "2.5" } } }
  }
  expect_failures = [var.strategies]
}

run "a_bound_that_is_left_out_is_refused" {
  command = plan
  variables {
    strategies = { trend = { settings = { MAX_ORDER_USD = "0" } } }
  }
  expect_failures = [var.strategies]
}

run "two_words_where_one_is_allowed_are_refused" {
  command = plan
  variables {
    strategies = { trend = { settings = { SIGNAL = "trend,interval" } } }
  }
  expect_failures = [var.strategies]
}

run "a_list_of_price_sources_is_checked_word_by_word" {
  command = plan
  variables {
    strategies = { trend = { settings = { PRICE_SOURCES = "alpaca,yahoo" } } }
  }
  assert {
    condition     = output.strategies.trend.environment.PRICE_SOURCES == "alpaca,yahoo"
    error_message = "both price sources should be allowed"
  }
}

# --- the boundary ---

run "without_bootstrap_there_is_no_boundary" {
  command = plan
  assert {
    condition     = local.permissions_boundary == null
    error_message = "there should be no boundary without bootstrap"
  }
}

run "the_boundary_of_bootstrap_is_found_without_make" {
  command = plan
  override_data {
    target = data.aws_ssm_parameters_by_path.bootstrap
    values = { values = ["arn:aws:iam::123456789012:policy/prophet-trader-boundary"] }
  }
  assert {
    condition     = local.permissions_boundary == "arn:aws:iam::123456789012:policy/prophet-trader-boundary"
    error_message = "a plain plan should keep the boundary"
  }
}

# --- the state ---

run "a_local_state_after_bootstrap_is_refused" {
  command         = plan
  expect_failures = [data.aws_ssm_parameters_by_path.bootstrap]
  override_data {
    target = data.aws_ssm_parameters_by_path.bootstrap
    values = { names = ["/prophet-trader/_bootstrap/permissions-boundary"], values = ["arn:aws:iam::123456789012:policy/prophet-trader-boundary"] }
  }
}

run "a_state_that_begins_beside_a_deployment_is_refused" {
  command         = plan
  expect_failures = [terraform_data.installation]
  override_data {
    target = data.aws_ssm_parameters_by_path.installation
    values = { names = ["/prophet-trader/_installation/local-state"] }
  }
}

# --- the keys ---

run "keys_that_are_not_stored_are_reported" {
  command         = plan
  expect_failures = [check.keys]
  override_data {
    target = data.aws_resourcegroupstaggingapi_resources.parameters
    values = { resource_tag_mapping_list = [{ resource_arn = "arn:aws:ssm:eu-central-1:123456789012:parameter/prophet-trader/trend/alpacauser" }] }
  }
  assert {
    condition     = local.missing_keys == { trend = ["/prophet-trader/trend/alpacapw"] }
    error_message = "only the secret key is missing"
  }
}

run "a_parameter_of_ones_own_is_not_looked_for" {
  command = plan
  override_data {
    target = data.aws_resourcegroupstaggingapi_resources.parameters
    values = { resource_tag_mapping_list = [] }
  }
  variables {
    strategies = { trend = { parameters = { ALPACAUSER = "/mine/user", ALPACAPW = "/mine/pw" } } }
  }
  assert {
    condition     = length(local.missing_keys.trend) == 0
    error_message = "the tag of a parameter that the user has made is unknown"
  }
}

run "the_next_steps_name_every_strategy" {
  command = plan
  variables {
    strategies = { trend = {}, interval = {} }
  }
  assert {
    condition     = alltrue([for name in ["trend", "interval"] : strcontains(output.next_steps, "make secrets STRATEGY=${name}") && strcontains(output.next_steps, "make resume STRATEGY=${name}")])
    error_message = "a strategy is missing: ${output.next_steps}"
  }
}

# --- the journal ---

run "another_bucket_than_its_own_cannot_be_named_for_deletion" {
  command         = plan
  expect_failures = [var.delete_journal_of]
  variables {
    delete_journal_of = "yes"
  }
}

run "the_journal_can_be_given_up_by_naming_its_bucket" {
  command = plan
  variables {
    delete_journal_of = "prophet-trader-123456789012-eu-central-1"
  }
  assert {
    condition     = strcontains(output.next_steps, "-var delete_journal_of=${var.delete_journal_of}")
    error_message = "the output names another bucket: ${output.next_steps}"
  }
}
