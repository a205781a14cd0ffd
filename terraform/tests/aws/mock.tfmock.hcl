# A mocked account: what AWS would tell the provider.

mock_data "aws_caller_identity" {
  defaults = { account_id = "123456789012" }
}

mock_data "aws_region" {
  defaults = { id = "eu-central-1" }
}

mock_data "aws_ssm_parameters_by_path" {
  defaults = { names = [], values = [] }
}

mock_data "aws_resourcegroupstaggingapi_resources" { # the keys of the strategies in the tests
  defaults = {
    resource_tag_mapping_list = [
      { resource_arn = "arn:aws:ssm:eu-central-1:123456789012:parameter/prophet-trader/etfs/alpacapw" },
      { resource_arn = "arn:aws:ssm:eu-central-1:123456789012:parameter/prophet-trader/etfs/alpacauser" },
      { resource_arn = "arn:aws:ssm:eu-central-1:123456789012:parameter/prophet-trader/interval/alpacapw" },
      { resource_arn = "arn:aws:ssm:eu-central-1:123456789012:parameter/prophet-trader/interval/alpacauser" },
      { resource_arn = "arn:aws:ssm:eu-central-1:123456789012:parameter/prophet-trader/trend/alpacapw" },
      { resource_arn = "arn:aws:ssm:eu-central-1:123456789012:parameter/prophet-trader/trend/alpacauser" },
    ]
  }
}

mock_data "aws_partition" {
  defaults = { partition = "aws" }
}

mock_resource "aws_lambda_alias" {
  defaults = { arn = "arn:aws:lambda:eu-central-1:123456789012:function:prophet-trader-trend:live" }
}

mock_resource "aws_lambda_layer_version" {
  defaults = { arn = "arn:aws:lambda:eu-central-1:123456789012:layer:prophet-trader-layer:1" }
}

mock_resource "aws_iam_role" {
  defaults = { arn = "arn:aws:iam::123456789012:role/prophet-trader-trend" }
}

mock_resource "aws_sns_topic" {
  defaults = { arn = "arn:aws:sns:eu-central-1:123456789012:prophet-trader-alarms" }
}

mock_resource "aws_s3_bucket" {
  defaults = { arn = "arn:aws:s3:::prophet-trader-123456789012-eu-central-1" }
}

mock_resource "aws_cloudwatch_log_group" {
  defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:/aws/lambda/prophet-trader-trend" }
}

mock_resource "aws_cloudwatch_event_rule" {
  defaults = { arn = "arn:aws:events:eu-central-1:123456789012:rule/prophet-trader-trend" }
}
