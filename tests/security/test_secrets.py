"""No key is in the repository, in the function's zip, or in anything a run outputs; planted keys are found."""

import json
import logging
import shutil
import traceback
import zipfile
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import boto3
import pytest

from lambda_function import run
from scripts import ROOT
from scripts.checks import scan_secrets
from scripts.checks.scan_secrets import ALLOWED, Finding
from scripts.layer.package import package
from scripts.testkit.alpaca import AlpacaFake, Answer
from tests.security.alpaca_setup import give_bars, settings_for
from trader.alpaca.client import AlpacaClient, AlpacaError
from trader.logs import TextFormatter
from trader.wiring import PARAMETERS

PLANTED = {
    "AWS Access Key": "aws = 'AKIAQ3EGV7WJ2KZLM5TX'",
    "Alpaca Key": "PKX4R7T2QW9ZK3M8VB6N\nq8Zk3LmN7pRs5TuV2wXy9AbC4dEf6GhJ1kLm0nPq",
    "Private Key": "-----BEGIN RSA PRIVATE KEY-----\nMIIBOgIBAAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf9Cnzj4p4WGeKLs1Pt8Qu",
}

KEY_ID, SECRET, OLD_SECRET = "PKCANARY0KEY0ID0OF0A0TEST", "canary-secret-of-a-test", "canary-old-secret-of-a-test"
CANARIES = (KEY_ID, SECRET, OLD_SECRET)


# --- the repository and the function's zip ---


def test_the_repository_holds_no_secret_and_every_allowed_finding_is_still_there() -> None:
    assert scan_secrets.list_problems(scan_secrets.in_files(ROOT, scan_secrets.list_tracked())) == []


def test_a_finding_that_is_not_allowed_is_a_problem_with_its_place() -> None:
    allowed = [Finding(place, 1, kind) for place, kind in ALLOWED]
    [problem] = scan_secrets.list_problems([*allowed, Finding("notes.txt", 2, "Private Key")])
    assert problem.startswith("notes.txt, line 2: looks like a secret (Private Key)")


def test_an_allowed_finding_that_is_gone_is_a_problem() -> None:
    (place, kind), *others = ALLOWED
    [problem] = scan_secrets.list_problems([Finding(*each) for each in ((p, 1, k) for p, k in others)])
    assert problem.startswith(f"{place}: {kind} is allowed but no longer there")


OTHERS = {
    "Basic Auth Credentials": "at = 'https://me:opensesame@example.com'",
    "GitHub Token": f"ghp_{'x1' * 18}",
    "JSON Web Token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "Secret Keyword": "Password = 'Opensesame1'",
    "PyPI Token": f"pypi-AgEIcHlwaS5vcmc{'x1' * 40}",
}


@pytest.mark.parametrize("kind", [*PLANTED, *OTHERS])
def test_a_key_planted_in_a_file_is_found(tmp_path: Path, kind: str) -> None:
    (tmp_path / "notes.txt").write_text(f"nothing\n{(PLANTED | OTHERS)[kind]}\n")
    assert Finding("notes.txt", 2, kind) in scan_secrets.in_files(tmp_path, ["notes.txt"])


def test_the_functions_zip_holds_no_secret(tmp_path: Path) -> None:
    assert list(scan_secrets.in_zip(package(zip_file=tmp_path / "function.zip"))) == []


@pytest.mark.parametrize("kind", PLANTED)
def test_a_key_planted_in_the_functions_zip_is_found(tmp_path: Path, kind: str) -> None:
    shutil.copytree(ROOT / "function", tmp_path / "function")
    (tmp_path / "function" / "trader" / "keys.py").write_text(f'"""Not to be."""\n# {PLANTED[kind]}\n')
    path = package(tmp_path / "function", tmp_path / "function.zip")
    assert Finding("function.zip/trader/keys.py", 2, kind) in list(scan_secrets.in_zip(path))


def test_only_code_and_its_data_get_into_the_functions_zip(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "function", tmp_path / "function")
    for name in (".env", "terraform.tfvars", "key.pem", "account.json", "trader/.aws.py"):
        (tmp_path / "function" / name).write_text("secret")
    with zipfile.ZipFile(package(tmp_path / "function", tmp_path / "function.zip")) as archive:
        assert {Path(name).suffix for name in archive.namelist()} == {".py", ".pyc", ".csv", ".gz", ".so", ".sha256"}
        assert "trader/.aws.py" not in archive.namelist()


# --- what a run outputs ---


@pytest.fixture
def fake() -> Iterator[AlpacaFake]:
    """Serve an account at Alpaca that accepts the canaries as keys."""
    with AlpacaFake(prices={"KO": 104.5, "PEP": 105.0}) as fake:
        fake.key_id, fake.secret = KEY_ID, SECRET
        give_bars(fake)
        yield fake


@pytest.fixture
def env(aws: Mapping[str, str], fake: AlpacaFake, tmp_path: Path) -> dict[str, str]:
    """Return the deployed function's environment, with the keys in SSM."""
    for name, value in {"alpacauser": KEY_ID, "alpacapw": SECRET}.items():
        boto3.client("ssm").put_parameter(Name=f"/t/{name}", Value=value, Type="SecureString")
    boto3.client("ssm").put_parameter(Name="/t/halt", Value="false", Type="String")
    PARAMETERS.forget()
    return {
        **settings_for(fake),
        "ALPACAUSER": "ssm:/t/alpacauser",
        "ALPACAPW": "ssm:/t/alpacapw",
        "HALT_PARAMETER": "/t/halt",
        "JOURNAL": f"folder:{tmp_path / 'journal'}",
    }


def change(name: str, value: str) -> Callable[[AlpacaFake, dict[str, str]], object]:
    """Return a scenario that changes a parameter."""
    return lambda *_: boto3.client("ssm").put_parameter(Name=f"/t/{name}", Value=value, Overwrite=True)


SCENARIOS: Mapping[str, Callable[[AlpacaFake, dict[str, str]], object]] = {
    "all goes well": lambda *_: None,
    "an order is refused": lambda fake, _: setattr(fake, "rejected_at_once", {"KO"}),
    "the keys are refused": lambda fake, _: setattr(fake, "secret", "another"),
    "the keys were changed": change("alpacapw", OLD_SECRET),
    "the account is forbidden": lambda fake, _: fake.fault("GET", "/v2/account", "403", times=9),
    "an order is forbidden": lambda fake, _: fake.fault("POST", "/v2/orders", "403-keys", times=9),
    "the connection breaks": lambda fake, _: fake.fault("GET", "/v2/account", "drop", times=1),
    "an answer is lost": lambda fake, _: fake.fault("POST", "/v2/orders", "drop-accepted", times=1),
    "a server fails": lambda fake, _: fake.fault("GET", "/v2/positions", "500-html", times=1),
    "an answer makes no sense": lambda fake, _: fake.fault(
        "GET", "/v2/account", "missing-field", times=9, field="cash"
    ),
    "a key contains a line break": change("alpacapw", f"{SECRET}\n{OLD_SECRET}"),
    "the keys are swapped": lambda _, env: env.update(ALPACAUSER="ssm:/t/alpacapw", ALPACAPW="ssm:/t/alpacauser"),
    "a key is in place of a number": lambda _, env: env.update(MAX_ORDER_USD="ssm:/t/alpacapw"),
    "a key is in place of an address": lambda _, env: env.update(APCA_API_BASE_URL="ssm:/t/alpacapw"),
    "a key is in place of the halt switch": lambda _, env: env.update(HALT_PARAMETER="/t/alpacapw"),
    "a key is in place of the journal": lambda _, env: env.update(JOURNAL="ssm:/t/alpacapw"),
    "a key is in the environment itself": lambda _, env: env.update(ALPACAUSER=KEY_ID, ALPACAPW=SECRET, MODE="lve"),
    "the journal cannot be written": lambda _, env: env.update(JOURNAL="folder:/dev/null/journal"),
}


class Said(logging.Handler):
    """A handler that keeps every record, as text and as Lambda's JSON."""

    def __init__(self, formatters: Sequence[logging.Formatter]) -> None:
        super().__init__(logging.INFO)
        self.texts: list[str] = []
        self._formatters = formatters

    def emit(self, record: logging.LogRecord) -> None:
        self.texts += [formatter.format(logging.makeLogRecord(vars(record))) for formatter in self._formatters]


@pytest.fixture
def log_lines() -> Iterator[list[str]]:
    """Collect what all loggers log at the level of the deployed function."""
    from awslambdaric.lambda_runtime_log_utils import JsonFormatter  # it has wheels for Linux only

    handler, root = Said([TextFormatter(), JsonFormatter()]), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield handler.texts
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_key_is_in_anything_a_run_outputs(
    env: dict[str, str], fake: AlpacaFake, log_lines: list[str], tmp_path: Path, scenario: str
) -> None:
    SCENARIOS[scenario](fake, env)
    try:
        told: list[Any] = [json.dumps(run(env=env))]
    except Exception as error:  # no error may contain a key
        told = [repr(error), *traceback.format_exception(error)]
    kept = [path.read_text() for path in (tmp_path / "journal").rglob("*") if path.is_file()]
    everything = "\n".join([*log_lines, *told, *kept])
    assert log_lines, "a run must log something"
    assert [canary for canary in CANARIES if canary in everything] == []


class Echo(AlpacaFake):
    """A stand-in for Alpaca behind a gateway that repeats the request's headers in some answers."""

    def __init__(self) -> None:
        super().__init__(prices={"KO": 104.5, "PEP": 105.0})
        self.repeats: tuple[str, str] | None = None  # the method, and the beginning of the path
        self.write: Callable[[str], str] = str
        self.field = ""  # the field of the honest answer that repeats them; none: in the message of a refusal

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> Answer | None:
        honest = super().answer(method, path, headers, body)
        if honest is None or not self.repeats or method != self.repeats[0] or not path.startswith(self.repeats[1]):
            return honest
        said = " ".join(self.write(value) for name, value in headers.items() if name.lower().startswith("apca"))
        if self.field and isinstance(honest.payload, dict):
            return Answer(honest.status, {**honest.payload, self.field: said})
        return Answer(422, {"code": 42210000, "message": f"bad request: {said}"})


def as_a_login(text: str) -> str:
    """Return the secret key as HTTP's basic authentication writes it, after the key id; the key id has no such form."""
    return "none" if text == KEY_ID else b64encode(f"{KEY_ID}:{text}".encode()).decode()


ODD_SECRET = 'canary/"secret"+of%a\\test'
FORMS: Sequence[Callable[[str], str]] = (
    str,
    lambda text: quote(text, safe=""),
    lambda text: b64encode(text.encode()).decode(),
    as_a_login,
)
WAYS: Mapping[str, Callable[[str], str]] = {
    "in every form": lambda text: " ".join(write(text) for write in FORMS),
    "after a long text": lambda text: f"{'x' * 480} {text}",
}
PLACES: Mapping[str, tuple[str, str, str]] = {
    "the refusal of an order": ("POST", "/v2/orders", ""),
    "the refusal of the account": ("GET", "/v2/account", ""),
    "the refusal of the positions": ("GET", "/v2/positions", ""),
    "the refusal of the clock": ("GET", "/v2/clock", ""),
    "the refusal of prices": ("GET", "/v2/stocks", ""),
    "the symbol of an order": ("POST", "/v2/orders", "symbol"),
    "the client id of an order": ("POST", "/v2/orders", "client_order_id"),
    "a number of an order": ("POST", "/v2/orders", "filled_qty"),
    "the id of an order": ("POST", "/v2/orders", "id"),
    "the status of an order": ("POST", "/v2/orders", "status"),
    "the status of the account": ("GET", "/v2/account", "status"),
    "a number of the account": ("GET", "/v2/account", "cash"),
    "the time of the clock": ("GET", "/v2/clock", "timestamp"),
}


@pytest.mark.parametrize("secret", [SECRET, ODD_SECRET], ids=["plain", "odd"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", PLACES)
def test_no_key_that_the_broker_repeats_is_in_anything_a_run_outputs(
    log_lines: list[str], tmp_path: Path, place: str, way: str, secret: str
) -> None:
    with Echo() as fake:
        fake.key_id, fake.secret = KEY_ID, secret
        give_bars(fake)
        method, path, fake.field = PLACES[place]
        fake.repeats, fake.write = (method, path), WAYS[way]
        env = {**settings_for(fake), "ALPACAUSER": KEY_ID, "ALPACAPW": secret, "JOURNAL": f"folder:{tmp_path}"}
        try:
            told = [json.dumps(run(env=env))]
        except Exception as error:
            told = [str(error)]  # what Lambda's runtime writes; the traceback is in the log
    kept = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    everything = "\n".join([*log_lines, *told, *kept])
    assert fake.asked(method, path), "the broker must have been asked"
    writes = [*FORMS, repr, json.dumps]
    forms = {write(key).split()[-1].strip("\"'=") for key in (KEY_ID, secret) for write in writes} - {"none"}
    assert [form for form in forms if form in everything] == []
    assert [word for word in everything.split() if word.startswith(("PKCANARY", "canary"))] == []  # nor a part


def test_the_account_accepts_the_canaries(env: dict[str, str], fake: AlpacaFake) -> None:
    assert run(env=env)["status"] == "TRADED"


def test_keys_do_not_follow_a_redirect() -> None:
    met: list[Mapping[str, str]] = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            met.append(dict(self.headers))
            self.send_response(302 if self.path.startswith("/v2/") else 200)
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")  # type: ignore[attr-defined]
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        with suppress(AlpacaError):
            AlpacaClient(url, url, lambda _: (KEY_ID, SECRET)).get("/account")
        server.shutdown()
    assert len(met) == 1
