"""The deployed handler on a simulated clock: what Lambda would start, told the time by the event."""

import os
from datetime import datetime
from typing import Any

import lambda_function
from trader import wiring


class Context:
    """Lambda's context, that may promise more time than there is."""

    def __init__(self, context: Any, promised_s: float | None) -> None:
        self._context = context
        self._promised_s = promised_s

    def get_remaining_time_in_millis(self) -> int:
        """What Lambda says, or what the test lets it say."""
        if self._promised_s is not None:
            return int(self._promised_s * 1000)
        result: int = self._context.get_remaining_time_in_millis()
        return result


def handler(event: dict[str, Any], context: Any) -> Any:
    """Run the event as if it were `clock`; "env" are settings of this invocation alone.

    With "forgets_keys" the keys are read anew, as in a process that is new.
    """
    if event.pop("forgets_keys"):
        wiring.PARAMETERS.forget()
    moment = datetime.fromisoformat(event.pop("clock"))
    env = {**os.environ, **event.pop("env")}
    in_context = Context(context, event.pop("promised_s"))
    return lambda_function.run(event, in_context, env=env, clock=lambda: moment)
