"""`make invoke STRATEGY=... [EVENT=...]`: run the deployed function now, and show its result and the end of its log.

It does what the Test button in the AWS console does. EVENT is a JSON object or a file that contains one; the default,
{}, means now. The run is real: with MODE=paper or MODE=live it may place orders. A strategy that trades once a day says
so first, because it would trade again at its own time.
"""

import base64
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    ProxyConnectionError,
    ResponseStreamingError,
    SSLError,
)
from rich.prompt import Confirm
from rich.text import Text

from scripts import console
from scripts.cloud.aws import ALIAS, AwsError, Cloud, UsageError, connect, translate_errors
from scripts.cloud.log_lines import STYLES, parse, render
from scripts.console import CommandError
from scripts.report import formatting
from scripts.report.console import show as show_run
from scripts.report.formatting import MODES
from trader.alpaca.client import CredentialsError, NoAnswerError
from trader.logs import printable
from trader.model import NEW_YORK, Report
from trader.parameters import ParametersError
from trader.schedule.base import EventError
from trader.settings import SettingsError

READ_TIMEOUT_S = 930
"""Seconds to wait for an answer: more than the 900 that Lambda lets a function run."""

ONCE = Config(
    connect_timeout=5,
    read_timeout=READ_TIMEOUT_S,
    tcp_keepalive=True,  # gateways drop connections that are idle for some minutes
    retries={"mode": "standard", "total_max_attempts": 1},  # a second call would be a second run
)
NOT_SENT = (ConnectTimeoutError, EndpointConnectionError, ProxyConnectionError, SSLError)
LOST = (HTTPClientError, IncompleteReadError, ResponseStreamingError)
REFUSED = (SettingsError.__name__, EventError.__name__)
SELF_EXPLANATORY = {*REFUSED, CredentialsError.__name__, NoAnswerError.__name__, ParametersError.__name__}
"""Errors whose message says what is wrong and what to do, so that nobody needs their traceback."""

NOT_BEGUN = "The run had not begun, and nothing was traded."


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Lambda's answer. `error` is its FunctionError, empty if the function succeeded; `log` is the log's last 4 KB."""

    strategy: str
    status: int  # of the HTTP response
    version: str
    error: str
    event: Mapping[str, Any]
    payload: Any
    log: Sequence[str]


def main() -> None:
    """Invoke the function once and show the answer; exit with 3 if the function failed."""
    with console.plain_errors(interrupted="interrupted; nothing was started"):
        event = parse_event(os.environ.get("EVENT"))
        cloud = connect()
        strategy = cloud.choose_strategy(os.environ.get("STRATEGY"))
        warn_of_second_run(strategy, cloud.environment(strategy), event, datetime.now(NEW_YORK))
        answer = invoke(cloud, strategy, event)
        if console.wants_json():
            console.print_json({**asdict(answer), "log": [parse(line) for line in answer.log]})
        else:
            show(cloud.function(strategy), answer)
    sys.exit(console.COULD_NOT if answer.error else console.USABLE)


def parse_event(text: str | None) -> Mapping[str, Any]:
    """Parse EVENT as a JSON object, empty if it is not set. Raises UsageError if it is not an object."""
    if not text or not text.strip():
        return {}
    where = "EVENT"
    if not text.lstrip().startswith(("{", "[", '"')):
        where = f"EVENT={text}"
        try:
            text = Path(text).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise UsageError(
                f'{where}: neither an existing file nor a JSON object such as {{"time": "2026-11-23T15:00:00Z"}}'
            ) from None
        except (OSError, ValueError) as error:
            raise UsageError(f"{where} cannot be read: {getattr(error, 'strerror', '') or error}") from error
    try:
        event = json.loads(text, parse_constant=refuse)
    except ValueError as error:
        raise UsageError(f"{where} is not JSON: {error}") from error
    if not isinstance(event, dict):
        raise UsageError(f'{where} must be a JSON object such as {{"time": "2026-11-23T15:00:00Z"}}')
    return event


def warn_of_second_run(strategy: str, settings: Mapping[str, str], event: Mapping[str, Any], now: datetime) -> None:
    """Say that a strategy which trades once a day would trade now as well, and ask on a terminal whether it should.

    An event with a time of its own is checked by the function. Raises CommandError if the answer is no.
    """
    daily_at, mode = settings.get("DAILY_AT", ""), settings.get("MODE", "paper")
    if not daily_at or event.get("time") or mode == "dry-run" or f"{now:%H:%M}" == daily_at:
        return
    console.note(
        f"{strategy} trades once a day, at {daily_at} New York time (DAILY_AT). It is {now:%H:%M} there: this run may "
        f"place orders now ({MODES.get(mode, mode)}), and the run at {daily_at} may place more"
    )
    if sys.stdin.isatty() and not Confirm.ask("Run it now?", console=console.ERR, default=False):
        raise CommandError("nothing was started")


def refuse(constant: str) -> NoReturn:
    """Reject NaN and Infinity, which Python would parse but Lambda would not."""
    raise ValueError(f"{constant} is not allowed in JSON")


def invoke(cloud: Cloud, strategy: str, event: Mapping[str, Any]) -> Answer:
    """Run the live version once and wait. Raises AwsError; if the answer was lost, it says that the run may go on."""
    function = cloud.function(strategy)
    console.note(f"{function}:{ALIAS} is running; this can take a few minutes")
    look = f"see what it does: make tail STRATEGY={strategy}"
    with translate_errors(function), console.ERR.status("waiting for the answer"):
        client = cloud.session.client("lambda", config=ONCE)
        try:
            answer = client.invoke(
                FunctionName=function, Qualifier=ALIAS, LogType="Tail", Payload=json.dumps(event).encode()
            )
            body = answer["Payload"].read()
        except KeyboardInterrupt:
            raise CommandError(f"interrupted, but the function goes on running in AWS; {look}") from None
        except NOT_SENT:
            raise
        except LOST as error:
            raise AwsError(
                f"the answer was lost ({error}); the function may have run or still be running, so it is not called "
                f"again; {look}"
            ) from error
        except ClientError as error:
            raise explain_refusal(function, error, look) from error
    return Answer(
        strategy=strategy,
        status=answer["StatusCode"],
        version=answer.get("ExecutedVersion", ""),
        error=answer.get("FunctionError", ""),
        event=event,
        payload=as_payload(body),
        log=base64.b64decode(answer.get("LogResult", "")).decode("utf-8", "replace").splitlines(),
    )


def explain_refusal(function: str, error: ClientError, look: str) -> Exception:
    """Return Lambda's own refusals as AwsErrors in plain words, and other errors unchanged."""
    if error.response["Error"]["Code"] == "TooManyRequestsException":
        return AwsError(
            f"{function} was not run: the function or the account has reached its limit of concurrent runs; wait a "
            "minute and run make invoke again"
        )
    if error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500:
        return AwsError(f"Lambda failed ({error}); the function may have run, so it is not called again; {look}")
    return error


def as_payload(body: bytes) -> Any:  # noqa: ANN401 whatever the function returned
    """Return the body of the answer as JSON, or as text if it is not JSON."""
    text = body.decode("utf-8", "replace")
    try:
        return json.loads(text)
    except ValueError:
        return text


def show(function: str, answer: Answer) -> None:
    """Print what was sent, the result, and the end of the log."""
    version = f"version {answer.version}" if answer.version else ALIAS
    console.OUT.print(f" {function}, {version}    event {json.dumps(answer.event)}", style="dim", markup=False)
    payload = answer.payload
    if answer.error:
        show_failure(answer.strategy, payload)
    elif isinstance(payload, dict) and Report.__required_keys__ <= payload.keys():
        show_run({"settings": None, "observation": None, "decision": None, "report": payload}, console.OUT)
    else:
        console.OUT.print("\n The function's answer is not the report of a run:", style="yellow")
        console.OUT.print(f" {plain(json.dumps(payload, indent=2))}\n", markup=False)
    if answer.log:
        whole = f"make tail STRATEGY={answer.strategy} SINCE=30m FOLLOW=0"
        console.OUT.print(f" The end of the log, New York time (the whole log: {whole})", style="bold", soft_wrap=True)
        for line in leave_out_repeated_errors(answer.log):
            console.OUT.print(line_as_text(line), soft_wrap=True)


def show_failure(strategy: str, payload: Any) -> None:  # noqa: ANN401 whatever the runtime returned
    """Print what the function raised, and what to do."""
    told = payload if isinstance(payload, dict) else {"errorMessage": payload}
    words = ": ".join(plain(told[name]).lstrip("_") for name in ("errorType", "errorMessage") if told.get(name))
    console.OUT.print(f"\n The function failed: {words}", style="bold red", markup=False)
    remedy = NOT_BEGUN if told.get("errorType") in REFUSED else formatting.FAILED.remedy
    if re.search(r"\bALPACA(USER|PW)\b", words):
        remedy += f"\n Store the keys: make secrets STRATEGY={strategy}"
    console.OUT.print(f" {remedy}\n", markup=False)


def leave_out_repeated_errors(log: Sequence[str]) -> Iterator[str]:
    """Yield the lines of the log without what is said elsewhere.

    The bot and Lambda's runtime both log an error that ends a run, with the same traceback: only the first is left. An
    error that says itself what to do needs no traceback.
    """
    seen: set[tuple[object, object]] = set()
    for line in log:
        content = parse(line)
        if not isinstance(content, dict) or not content.get("errorType"):
            yield line
            continue
        error = (content["errorType"], content.get("errorMessage"))
        if error not in seen:
            seen.add(error)
            drop = {"stackTrace"} if content["errorType"] in SELF_EXPLANATORY else set()
            yield json.dumps({name: value for name, value in content.items() if name not in drop})


def plain(text: object) -> str:
    """Return text from outside in printable characters, with its line breaks."""
    return "\n".join(map(printable, str(text).splitlines()))


def line_as_text(line: str) -> Text:
    """Return a line of the log in readable form, in the style of its level."""
    level, lines = render(line)
    cut = "…" if not level and line.endswith("}") else ""  # the 4 KB may begin in the middle of a line
    return Text("\n".join(f" {cut}{each}" for each in lines), style=STYLES.get(level, "" if level else "dim"))
