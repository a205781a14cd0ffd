"""The error of a command's variable, for what runs without AWS's SDK."""

from trader.settings import SettingsError


class UsageError(SettingsError):
    """A variable of a command has a value that is not allowed, or contradicts another; the command exits with 2."""

    def __init__(self, problem: str) -> None:
        super().__init__([problem])
        self.args = (problem,)  # without the heading of a list of settings
