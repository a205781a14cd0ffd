# Real money. mode = "live" alone is refused: the strategy must be named in live_strategies as well. Begin with tight caps.

alarm_email     = "you@example.com"
live_strategies = ["trend"]

strategies = {
  trend = {
    mode     = "live"
    daily_at = "15:30"
    settings = {
      MAX_ORDER_USD           = "1000"
      MAX_ORDERS_PER_RUN      = "5"
      MAX_POSITION_FRACTION   = "0.05"
      MAX_DAILY_LOSS_FRACTION = "0.02"
    }
  }
}
