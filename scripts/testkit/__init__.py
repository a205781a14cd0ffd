"""Stand-ins for Alpaca, Yahoo, AWS and the Lambda runtime, on loopback."""
