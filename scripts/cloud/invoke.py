"""`make invoke STRATEGY=... [EVENT=...]`: run the deployed function now, and show its result and the end of its log.

It is the Test button of AWS's console. EVENT is a JSON object, or a file with one; by default {}: the present.
The run is a real one: with MODE=paper or live it may place orders.
"""

import base64
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
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
from rich.text import Text

from scripts import console
from scripts.cloud.aws import ALIAS, AwsError, Cloud, connect, translate_errors
from scripts.cloud.log_lines import STYLES, parse, render
from scripts.console import CommandError
from scripts.report import formatting
from scripts.report.console import show as show_run
from trader.logs import printable
from trader.model import Report
from trader.schedule.base import EventError
from trader.settings import SettingsError

READ_TIMEOUT_S = 930
"""Above 900 s, the longest that Lambda lets any function run."""

ONCE = Config(
    connect_timeout=5,
    read_timeout=READ_TIMEOUT_S,
    tcp_keepalive=True,  # gateways forget a connection on which nothing is said for some minutes
    retries={"mode": "standard", "total_max_attempts": 1},  # a second call would be a second run
)
NOT_SENT = (ConnectTimeoutError, EndpointConnectionError, ProxyConnectionError, SSLError)
LOST = (HTTPClientError, IncompleteReadError, ResponseStreamingError)
REFUSED = (SettingsError.__name__, EventError.__name__)
NOT_BEGUN = "The run had not begun, and nothing was traded."


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What Lambda answered. `error` is its word for a function that failed; `log` is the end of the log, 4 KB."""

    strategy: str
    status: int  # of the HTTP answer
    version: str
    error: str
    event: Mapping[str, Any]
    payload: Any
    log: Sequence[str]


def main() -> None:
    """Invoke once, show the answer; the exit code is 1 if the function failed."""
    parser = console.parser("make invoke", __doc__)
    parser.add_argument("--event", default=os.environ.get("EVENT"), help="a JSON object, or a file with one")
    arguments = parser.parse_args()
    with console.plain_errors(interrupted="interrupted; nothing was started"):
        event = parse_event(arguments.event)
        cloud = connect()
        strategy = cloud.choose_strategy(os.environ.get("STRATEGY"))
        answer = invoke(cloud, strategy, event)
        if arguments.json:
            console.print_json({**asdict(answer), "log": [parse(line) for line in answer.log]})
        else:
            show(cloud.function(strategy), answer)
    sys.exit(console.FAILED if answer.error else console.USABLE)


def parse_event(text: str | None) -> Mapping[str, Any]:
    """Parse EVENT as an object. Raises CommandError if it is not one."""
    if not text or not text.strip():
        return {}
    where = "EVENT"
    if not text.lstrip().startswith(("{", "[", '"')):
        where = f"EVENT={text}"
        try:
            text = Path(text).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise CommandError(
                f'{where}: there is no such file, and it is no JSON object such as {{"time": "2026-11-23T15:00:00Z"}}'
            ) from None
        except (OSError, ValueError) as error:
            raise CommandError(f"{where} cannot be read: {getattr(error, 'strerror', '') or error}") from error
    try:
        event = json.loads(text, parse_constant=refuse)
    except ValueError as error:
        raise CommandError(f"{where} is not JSON: {error}") from error
    if not isinstance(event, dict):
        raise CommandError(f'{where} must be a JSON object such as {{"time": "2026-11-23T15:00:00Z"}}')
    return event


def refuse(constant: str) -> NoReturn:
    """Python would read these, and Lambda would not."""
    raise ValueError(f"{constant} is no JSON")


def invoke(cloud: Cloud, strategy: str, event: Mapping[str, Any]) -> Answer:
    """Run the live version once and wait. Raises AwsError; after a lost answer it says that the run may go on."""
    function = cloud.function(strategy)
    console.note(f"{function}:{ALIAS} runs; that can take some minutes")
    look = f"see what it does: make tail STRATEGY={strategy}"
    with translate_errors(function), console.ERR.status("waiting for its answer"):
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
                f"the answer was lost ({error}); the function may have run, or runs still, and is not called a second "
                f"time; {look}"
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
    """Explain Lambda's own refusals; return other errors unchanged."""
    if error.response["Error"]["Code"] == "TooManyRequestsException":
        return AwsError(
            f"{function} was not run: as many runs as allowed are under way, of it or of the account; wait a minute "
            "and run make invoke again"
        )
    if error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500:
        return AwsError(f"Lambda failed ({error}); the function may have run, and is not called a second time; {look}")
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
        show_failure(payload)
    elif isinstance(payload, dict) and Report.__required_keys__ <= payload.keys():
        show_run({"settings": None, "observation": None, "decision": None, "report": payload}, console.OUT)
    else:
        console.OUT.print("\n It answered with something that is no report of a run:", style="yellow")
        console.OUT.print(f" {plain(json.dumps(payload, indent=2))}\n", markup=False)
    if answer.log:
        console.OUT.print(" The end of its log, New York time (all of it: make logs, make tail)", style="bold")
        for line in answer.log:
            console.OUT.print(line_as_text(line), soft_wrap=True)


def show_failure(payload: Any) -> None:  # noqa: ANN401 whatever the runtime returned
    """Print what the function raised, and where to look."""
    told = payload if isinstance(payload, dict) else {"errorMessage": payload}
    words = ": ".join(plain(told[name]) for name in ("errorType", "errorMessage") if told.get(name))
    console.OUT.print(f"\n The function failed: {words}", style="bold red", markup=False)
    remedy = NOT_BEGUN if told.get("errorType") in REFUSED else formatting.FAILED.remedy
    console.OUT.print(f" {remedy}\n", markup=False)


def plain(text: object) -> str:
    """Text from outside with its line breaks, in printable characters."""
    return "\n".join(map(printable, str(text).splitlines()))


def line_as_text(line: str) -> Text:
    """Return a readable line of the log, in the style of its level."""
    level, lines = render(line)
    cut = "…" if not level and line.endswith("}") else ""  # the 4 KB begin in the middle of a line
    return Text("\n".join(f" {cut}{each}" for each in lines), style=STYLES.get(level, "" if level else "dim"))


if __name__ == "__main__":
    main()
