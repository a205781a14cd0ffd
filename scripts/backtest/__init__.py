"""Backtests: the bot's own stages run on past bars, driven by Backtrader."""

import warnings

# Backtrader's docstrings contain invalid escape sequences; its first import would print a warning about them.
warnings.filterwarnings("ignore", category=SyntaxWarning, module=r".*backtrader.*")
