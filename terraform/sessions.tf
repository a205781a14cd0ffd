# What a schedule tells about the sessions in which a strategy must have done its work. The digest says if it has not.

locals {
  cron_fields = { # minutes, hours, day of the month, month, day of the week, year; the module schedule refuses a wrong one
    for name, its in var.strategies : name => its.daily_at != null ? split(" ", "0 0 ? * MON-FRI *") : try(
      split(" ", regex("^cron\\((.*)\\)$", its.schedule)[0]), ["", "", "", "", "", ""]
    )
  }
  weekday_numbers = merge(
    { for number in range(1, 8) : tostring(number) => number },
    { SUN = 1, MON = 2, TUE = 3, WED = 4, THU = 5, FRI = 6, SAT = 7 },
  )
  weekday_elements = { # [first, last, step] of each element; an element that is not for every week, such as 6L, is left out
    for name, fields in local.cron_fields : name => [
      for part in [for element in split(",", fields[4]) : try(regex("^(?:\\*|(\\w+)(?:-(\\w+))?)(?:/([0-9]+))?$", element), null)] : [
        part[0] == null ? 1 : local.weekday_numbers[part[0]],
        part[1] != null ? local.weekday_numbers[part[1]] : part[0] == null || part[2] != null ? 7 : local.weekday_numbers[part[0]],
        part[2] == null ? 1 : tonumber(part[2]),
      ] if part != null && can([for word in part : local.weekday_numbers[word] if word != null && word != part[2]])
    ]
  }
  weekdays = { # the days, 1 for Sunday, on which the schedule fires in every week of the year
    for name, fields in local.cron_fields : name =>
    fields[3] != "*" || fields[5] != "*" ? toset([]) :
    fields[4] == "?" ? toset(fields[2] == "*" ? range(1, 8) : []) :
    toset(flatten([for element in local.weekday_elements[name] : range(element[0], element[1] + 1, element[2])]))
  }
  first_hours = { # the first hour of the day, in UTC, in which the schedule fires
    for name, its in var.strategies : name => its.daily_at != null ? tonumber(split(":", its.daily_at)[0]) + 4 : min([
      for element in split(",", local.cron_fields[name][1]) : try(tonumber(regex("^[0-9]+", element)), 0)
    ]...)
  }

  # 13:00 in New York, when the exchange closes before a holiday, is 17:00 or 18:00 UTC. A strategy that runs only later
  # does no work on such a day. One that does not run on every weekday is not expected to.
  silent_sessions = {
    for name, its in var.strategies : name => its.silent_sessions != null ? its.silent_sessions :
    length(setintersection(local.weekdays[name], range(2, 7))) < 5 ? 0 : local.first_hours[name] >= 17 ? 3 : 2
  }
}
