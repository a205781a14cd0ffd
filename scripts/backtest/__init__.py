"""Backtests: the bot's own stages over the past, driven by Backtrader."""

import warnings

# Backtrader's docstrings are older than Python's rules for backslashes; its first import would say so on the terminal.
warnings.filterwarnings("ignore", category=SyntaxWarning, module=r".*backtrader.*")
