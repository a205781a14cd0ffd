"""Commands that run the bot here, and look at what it did."""
