# Each example can be planned, with -var-file (tests/system/test_terraform_rules.py). No account is needed.

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
    error_message = "an example should have a strategy"
  }
  assert {
    condition     = keys(output.keys_needed) == keys(output.strategies)
    error_message = "keys_needed should list the keys of every strategy"
  }
}
