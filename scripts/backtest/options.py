"""The options of a backtest from environment variables, beside the bot's own settings; all problems at once."""

from collections.abc import Mapping
