"""Commands that run the bot on this machine, and check its runs."""
