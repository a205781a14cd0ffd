"""The handler for the gauntlet: it runs the deployed function on a simulated clock that the event sets."""

import os
from datetime import datetime
from typing import Any

import lambda_function
from trader import wiring


class Context:
    """Lambda's context, which may promise more time than is left."""

    def __init__(self, context: Any, promised_s: float | None) -> None:
        self._context = context
        self._promised_s = promised_s

    def get_remaining_time_in_millis(self) -> int:
        """Return the promised time if the event sets one, otherwise Lambda's own."""
        if self._promised_s is not None:
            return int(self._promised_s * 1000)
        result: int = self._context.get_remaining_time_in_millis()
        return result


def handler(event: dict[str, Any], context: Any) -> Any:
    """Run the event as if the time were `clock`, with settings `env` for this invocation only.

    With `forgets_keys`, the keys are read again, as in a new process.
    """
    if event.pop("forgets_keys"):
        wiring.PARAMETERS.forget()
    moment = datetime.fromisoformat(event.pop("clock"))
    env = {**os.environ, **event.pop("env")}
    in_context = Context(context, event.pop("promised_s"))
    return lambda_function.run(event, in_context, env=env, clock=lambda: moment)
