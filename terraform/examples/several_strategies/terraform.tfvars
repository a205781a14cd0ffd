# Three strategies side by side. Each needs its own Alpaca paper account: make secrets STRATEGY=...

alarm_email = "you@example.com"

strategies = {
  trend = {}

  interval = {
    daily_at = "15:00" # once a day, 3 p.m. in New York, summer and winter
    settings = { SIGNAL = "interval", UNIVERSE_SIZE = "10", MAX_ORDER_USD = "5000" }
  }

  etfs = {
    mode     = "dry-run" # decides, but places no orders
    settings = { UNIVERSE = "SPY,QQQ,IWM,EFA", ENGINE = "map", MAX_POSITION_FRACTION = "0.25" }
  }
}
