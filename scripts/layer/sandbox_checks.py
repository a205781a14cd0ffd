"""The part of verification that runs in the sandbox: the function behind AWS's runtime interface, with stand-ins.

scripts.layer.verify starts it with one argument, a JSON object (`Assignment`). It prints one JSON object for each check
that passes, then the findings. It stops at the first check that fails.
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from scripts.testkit.lambda_runtime import HANDLER, EmulatorError, Function, FunctionError, running

PROBE = Path(__file__).with_name("probe")
CHECKS = (
    "the handler starts",
    "only the layer's modules are loaded",
    "New York time",
    "the sample day gives the decisions of make run",
    "the digest decides the sample day again",
    "Yahoo, Alpaca, SSM and S3 through their adapters",
    "a message by SNS and Apprise",
)
DIGEST_OF_SAMPLE = "2022-12-28T21:15:00Z"
"""A quarter past four in New York on the day of the sample's last slot."""

BARS = 120
LAST_STEPS = {"KO": -0.05, "PEP": -0.04, "MCD": 0.05}
"""How far each symbol's last close jumps from its trend line: two to buy, one to sell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The paths of the parts, and the report of `make run` for the same slot."""

    python: str
    tools: str
    emulator: str
    task: str
    layer: str
    expected: Mapping[str, Any]

    def function(self, *more: Path, handler: str = HANDLER) -> Function:
        """Return the function as Lambda would start it."""
        return Function(
            python=Path(self.python),
            tools=Path(self.tools),
            emulator=Path(self.emulator),
            task=Path(self.task),
            path=[Path(self.layer), *more],
            handler=handler,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """The measurements, and which of Lambda's restrictions were enforced here."""

    init_ms: float
    after_init_mb: float
    peak_mb: float
    run_s: float
    enforced: Mapping[str, bool]


class CheckError(Exception):
    """A check failed."""


def main() -> None:
    """Run the checks; if one fails, say why in the last line of output and exit with code 1."""
    sys.stdout = sys.stderr  # keeps the output of stand-ins out of the messages
    assignment = Assignment(**json.loads(sys.argv[1]))
    steps = iter(CHECKS)
    check = next(steps)

    def report_passed() -> None:
        nonlocal check
        say({"passed": check})
        check = next(steps, "")

    try:
        findings = verify(assignment, report_passed)
    except (CheckError, EmulatorError, FunctionError) as error:
        say({"failed": check, "because": str(error), "is_of_the_layer": not isinstance(error, EmulatorError)})
        sys.exit(1)
    say({"findings": asdict(findings)})


def say(message: Mapping[str, object]) -> None:
    """Print one line of JSON for the process that started this one."""
    print(json.dumps(message), file=sys.__stdout__, flush=True)


def verify(assignment: Assignment, passed: Callable[[], None]) -> Findings:
    """Run all checks in order."""
    facts = probe(assignment)
    passed()
    if foreign := facts["foreign_modules"]:
        raise CheckError(f"these modules were loaded from outside the layer: {', '.join(foreign)}")
    passed()
    if facts["new_york_noon_utc"] != [17, 16]:
        raise CheckError(f"noon in New York, in January and July, is {facts['new_york_noon_utc']} UTC, not [17, 16]")
    passed()
    init_ms, peak_mb, run_s = sample_day(assignment, passed)
    trade_with_stand_ins(assignment, passed)
    return Findings(
        init_ms=init_ms,
        after_init_mb=facts["after_init_mb"],
        peak_mb=peak_mb,
        run_s=run_s,
        enforced=facts["enforced"],
    )


def probe(assignment: Assignment) -> dict[str, Any]:
    """Return what the probe finds when it runs in place of the function."""
    with running(assignment.function(PROBE, handler="layer_probe.handler"), {}) as interface:
        event = {"layer": assignment.layer, "tools": assignment.tools, "probe": str(PROBE)}
        facts: dict[str, Any] = interface.invoke(event)
    return facts


def sample_day(assignment: Assignment, passed: Callable[[], None]) -> tuple[float, float, float]:
    """Run the slot of `make run` and compare; return the init time in ms, the peak in MB and the run time in s.

    Then let the digest decide the slot again.
    """
    with TemporaryDirectory() as folder:
        env = {"JOURNAL": f"folder:{folder}/journal", "ACCOUNT_FILE": f"{folder}/account.json"}
        with running(assignment.function(), env) as interface:
            report = interface.invoke({"time": assignment.expected["slot"]})
            init_ms, peak_mb = interface.init_ms, interface.peak_mb
            told = interface.invoke({"do": "digest", "time": DIGEST_OF_SAMPLE})
    expected = assignment.expected
    differing = [key for key in {*expected, *report} - {"timings_s"} if expected.get(key) != report.get(key)]
    if differing:
        raise CheckError(
            f"{', '.join(sorted(differing))} differ from make run's for {expected['slot']}; "
            f"status {report['status']}, denials: {report['denials'][:3]}"
        )
    passed()
    if "1 slot decided again, the same" not in told["message"]["text"]:
        raise CheckError(f"the digest of the sample day says:\n{told['message']['text']}")
    passed()
    return init_ms, peak_mb, sum(report["timings_s"].values())


def trade_with_stand_ins(assignment: Assignment, passed: Callable[[], None]) -> None:
    """Run the function once against stand-ins for AWS, Alpaca and Yahoo on loopback, and let it send a message."""
    from scripts.testkit import aws, services
    from scripts.testkit.web_hook import web_hook

    closes = {symbol: services.trend_closes(BARS, step) for symbol, step in LAST_STEPS.items()}
    with services.start(closes, not_at_yahoo=["PEP"]) as there, web_hook() as hook:
        there.alpaca.hold("MCD", 5, 100)
        topic = aws.client("sns", there.aws).create_topic(Name="alarms")["TopicArn"]
        env = {"UNIVERSE": "KO,PEP", "MESSAGE_TOPIC": topic, "MESSAGE_URL": f"ntfy://{hook.place}/topic"}
        with running(assignment.function(), {**there.environment, **env}) as interface:
            report = interface.invoke({"time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:00Z}"})
            log = interface.log
            told = interface.invoke({"do": "test-message"})
            log_of_message = interface.log
        keys = list(there.list_objects())
        ordered = {(order.symbol, order.side) for order in there.alpaca.orders if order.type == "market"}
    if ordered != {("KO", "buy"), ("PEP", "buy"), ("MCD", "sell")}:
        raise CheckError(
            f"the stand-in for Alpaca has the orders {sorted(ordered)}, not buys of KO and PEP and a sale of MCD; "
            f"the report's denials: {report['denials']}; the log ends:\n{log[-2000:]}"
        )
    if not any(key.startswith("trader/runs/trend/") and key.endswith(".json") for key in keys):
        raise CheckError(f"the bucket has no record of the run, only {keys}")
    passed()
    if told["status"] != "SENT" or len(hook.taken) != 1 or "message not sent" in log_of_message:
        raise CheckError(f"the message was not taken by both channels: {told}; the log ends:\n{log_of_message[-2000:]}")
    passed()


if __name__ == "__main__":
    main()
