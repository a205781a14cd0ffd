"""Price sources: closes by symbol from a file, Yahoo or Alpaca."""
