"""The handler for the gauntlet: it runs the deployed function on a simulated clock that the event sets."""

import os
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import lambda_function
from trader import wiring
from trader.alpaca import client
from trader.app import Invocation
from trader.broker import waiting
from trader.broker.base import OrderHistory
from trader.journal.base import Run
from trader.journal.entry import Journal
from trader.stages import execution, protection
from trader.stages.pipeline import RunServices

FILL_TIME_S, CANCEL_TIME_S, FREE_TIME_S, SALE_TIME_S, MAX_WAIT_S = 2.0, 1.0, 4.0, 2.0, 3.0
"""The real times are several times as long; they would only make the gauntlet wait. PATIENT=1 leaves them."""

_make_services = wiring.make_services


def _make_hasty(run: Run, invocation: Invocation, journal: Journal) -> tuple[RunServices, OrderHistory]:
    services, history = _make_services(run, invocation, journal)
    return replace(services, fill_time_s=FILL_TIME_S), history


if os.environ.get("PATIENT") != "1":
    wiring.make_services = _make_hasty
    for module in (waiting, protection, execution):  # each has its own name for it
        vars(module)["CANCEL_TIME_S"] = CANCEL_TIME_S
    execution.FREE_TIME_S, protection.SALE_TIME_S = FREE_TIME_S, SALE_TIME_S
    client.MAX_WAIT_S = client.MAX_DATA_WAIT_S = MAX_WAIT_S


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

    The time stands still, but goes on by the seconds in `sleep_file`. With `forgets_keys`, the keys are read again, as
    in a new process.
    """
    if event.pop("forgets_keys"):
        wiring.PARAMETERS.forget()
    moment = datetime.fromisoformat(event.pop("clock"))
    env = {**os.environ, **event.pop("env")}
    in_context, sleep_file = Context(context, event.pop("promised_s")), Path(event.pop("sleep_file"))

    def clock() -> datetime:
        return moment + timedelta(seconds=float(sleep_file.read_text() or 0))

    if "do" in event:
        return lambda_function.do(event, in_context, env=env, clock=clock)
    return lambda_function.run(event, in_context, env=env, clock=clock)
