# Each example is planned, with -var-file (tests/system/test_terraform_rules.py). No account is asked.

mock_provider "aws" {
  source = "./tests/aws"
}

variables {
  layer_zip    = "tests/zips/layer.zip"
  function_zip = "tests/zips/function.zip"
}

run "the_example_can_be_planned" {
  command = plan

  assert {
    condition     = length(output.strategies) >= 1
    error_message = "an example has a strategy"
  }
  assert {
    condition     = keys(output.keys_needed) == keys(output.strategies)
    error_message = "it is said for each strategy where its keys must be"
  }
}
