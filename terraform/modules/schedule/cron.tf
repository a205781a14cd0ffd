# Finds mistakes in a schedule, so that a wrong one fails the plan instead of becoming a rule that never fires.

locals {
  fields = try(split(" ", regex("^cron\\((.*)\\)$", var.expression)[0]), [])

  # What an element of each field's comma-separated list may be: N, A-B or *, with an optional step.
  minute = "(0|[1-5]?[0-9])"
  hour   = "(1?[0-9]|2[0-3])"
  date   = "([1-9]|[12][0-9]|3[01])"
  month  = "([1-9]|1[0-2]|JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC)"
  day    = "([1-7]|SUN|MON|TUE|WED|THU|FRI|SAT)"
  year   = "(19[7-9][0-9]|2[01][0-9][0-9])"
  elements = [
    for value in [local.minute, local.hour, local.date, local.month, local.day, local.year] :
    "(\\*|${value}(-${value})?)(/[1-9][0-9]?)?"
  ]
  patterns = [
    "^${local.elements[0]}(,${local.elements[0]})*$",
    "^${local.elements[1]}(,${local.elements[1]})*$",
    "^(\\?|L|${local.date}W|${local.elements[2]}(,${local.elements[2]})*)$",
    "^${local.elements[3]}(,${local.elements[3]})*$",
    "^(\\?|${local.day}(L|#[1-5])|${local.elements[4]}(,${local.elements[4]})*)$",
    "^${local.elements[5]}(,${local.elements[5]})*$",
  ]
  names = ["minutes (0-59)", "hours (0-23, UTC)", "day of the month (1-31, L, W or ?)", "month (1-12 or JAN-DEC)", "day of the week (1-7 with 1 for Sunday, SUN-SAT, L, # or ?)", "year (1970-2199)"]
  wrong = length(local.fields) != 6 ? [] : [
    for index, field in local.fields : "${field} is not valid for ${local.names[index]}" if !can(regex(local.patterns[index], field))
  ]
  backward = [
    for range in flatten([for field in local.fields : regexall("[0-9]+-[0-9]+", field)]) :
    range if tonumber(split("-", range)[0]) > tonumber(split("-", range)[1])
  ]
}
