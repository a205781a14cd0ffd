output "alarm_topic_arn" {
  description = "Topic that messages, alarms and failed events are sent to."
  value       = module.monitoring.topic_arn
}

output "artifact_bucket" {
  description = "Bucket with the zips and the journal."
  value       = module.artifact_bucket.name
}

output "dashboard_url" {
  description = "Address of the dashboard."
  value       = module.monitoring.dashboard_url
}

output "keys_needed" {
  description = "For each strategy, the SSM parameters that must hold its keys before it can trade, and the command that asks for them. Terraform cannot check them without putting the keys into its state."
  value = {
    for name, its in local.strategies : name => {
      parameters = [for key in local.keys : its.parameters[key]]
      command    = "make secrets STRATEGY=${name}"
    }
  }
}

output "next_steps" {
  description = "What to do after the first apply, and before a destroy. To read it: terraform output -raw next_steps."
  value = join("\n", concat(
    ["Store the keys of each strategy's Alpaca account, and let it trade; a new strategy is halted:"],
    flatten([for name in keys(local.strategies) : ["  make secrets STRATEGY=${name}", "  make resume STRATEGY=${name}"]]),
    [
      "To destroy everything: make destroy, which asks, and can keep a copy of the journal (KEEP_JOURNAL=folder).",
      "terraform destroy alone ends with BucketNotEmpty, because the bucket holds the journal. To delete that too, first:",
      "  terraform apply -target=module.artifact_bucket -var delete_journal_of=${local.bucket_name}",
      "The same without make: docs/how-to/terraform-without-make.md",
      "",
    ],
  ))
}

output "strategies" {
  description = "For each strategy, its function, alias, newest version, log group, schedule, variables, and the SSM parameters that must exist."
  value = {
    for name, its in local.strategies : name => {
      function_name  = its.name
      alias_arn      = module.function[name].alias.arn
      version        = module.function[name].version
      log_group      = "/aws/lambda/${its.name}"
      schedule       = its.schedule
      enabled        = its.enabled
      environment    = module.function[name].environment
      halt_parameter = "${its.path}/halt"
      parameters     = sort([for variable, name in its.parameters : name if !contains(local.addresses, variable)])
    }
  }
}
