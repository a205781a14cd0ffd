# One paper strategy, every 15 minutes of the trading day. This is the default, with an address for messages and alarms.

alarm_email = "you@example.com"

strategies = {
  trend = {}
}
