# Warns of keys that are not stored yet. Terraform sees the names of parameters by their tag, never their values: a data source
# of the parameters themselves would put the keys into the state. A parameter of your own is not looked for.

data "aws_resourcegroupstaggingapi_resources" "parameters" {
  resource_type_filters = ["ssm:parameter"]
  tag_filter {
    key    = "project"
    values = [var.project]
  }
}

locals {
  stored_parameters = [
    for each in data.aws_resourcegroupstaggingapi_resources.parameters.resource_tag_mapping_list : replace(each.resource_arn, "/^.*:parameter/", "")
  ]
  missing_keys = {
    for name, its in var.strategies : name => [
      for key in local.keys : local.strategies[name].parameters[key]
      if !can(its.parameters[key]) && !contains(local.stored_parameters, local.strategies[name].parameters[key])
    ]
  }
}

check "keys" {
  assert {
    condition     = alltrue([for names in values(local.missing_keys) : length(names) == 0])
    error_message = "Without its keys every run of a strategy fails, and nothing is traded. ${join(" ", [for name, names in local.missing_keys : "There is no ${join(" and no ", names)} with the tag project=${var.project}: run make secrets STRATEGY=${name}." if length(names) > 0])}"
  }
}
