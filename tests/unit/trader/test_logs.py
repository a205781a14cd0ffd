import json
import logging
import sys
from base64 import b64encode
from collections.abc import Callable
from urllib.parse import quote

import pytest

from trader import logs
from trader.logs import RedactingFilter, TextFormatter, configure, keep_secrets, one_line, redact
from trader.settings import Settings


def record(message: str = "decision", **fields: object) -> logging.LogRecord:
    return logging.getLogger("trader").makeRecord("trader", logging.INFO, __file__, 1, message, (), None, extra=fields)


@pytest.mark.skipif(sys.platform != "linux", reason="left out: AWS's runtime client has no wheel for this system")
def test_under_lambdas_json_format_every_field_is_at_the_top_level() -> None:
    from awslambdaric.lambda_runtime_log_utils import JsonFormatter

    line = json.loads(JsonFormatter().format(record(symbol="AAPL", gap_fraction=-0.05, denials={"HALTED": 1})))
    assert (line["message"], line["symbol"], line["gap_fraction"], line["denials"]) == (
        "decision",
        "AAPL",
        -0.05,
        {"HALTED": 1},
    )


def test_outside_lambda_a_record_is_one_readable_line() -> None:
    text = TextFormatter().format(record(symbol="AAPL", direction="UP"))
    assert text.endswith("INFO decision symbol=AAPL direction=UP")


def test_no_message_can_fake_another_line() -> None:
    assert "\n" not in TextFormatter().format(record("x\n2022-12-28 20:45:00 INFO run status=TRADED"))


@pytest.mark.parametrize("hostile", ["x\n2022-12-28 INFO run status=TRADED", "x status=TRADED", "\x1b[31mred", ""])
def test_no_value_can_fake_another_field_or_line(hostile: str) -> None:
    text = TextFormatter().format(record(detail=hostile, last="here"))
    assert text.endswith(f"detail={hostile!r} last=here")


def test_boto_logs_nothing_about_credentials(caplog: pytest.LogCaptureFixture) -> None:
    configure()
    with caplog.at_level(logging.INFO):
        logging.getLogger("botocore.credentials").info("Found credentials in environment variables.")
        logging.getLogger("trader").info("run")
    assert caplog.messages == ["run"]


# --- untrusted text ---

UNSAFE = [*range(32), *range(127, 161), 0xAD, 0x61C, 0x180E, *range(0x200B, 0x2010), *range(0x2028, 0x202F)]
UNSAFE += [*range(0x2060, 0x2070), 0xD800, 0xFEFF, *range(0xFFF9, 0xFFFC), 0xE0001, 0xE0020]
"""Terminal controls, separators of lines, marks that reorder text, marks without a width, and lone surrogates."""


@pytest.mark.parametrize("code", UNSAFE, ids=hex)
def test_no_character_that_controls_reorders_or_hides_text_is_left(code: int) -> None:
    assert one_line(f"a{chr(code)}b") == f"a{repr(chr(code))[1:-1]}b"
    assert one_line(f"a{chr(code)}b").isprintable()


# --- secrets ---

SECRET = 'sQ7+unit/test"of\\a=secret'


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    """Remember a secret for the duration of a test."""
    monkeypatch.setattr(logs, "_SECRETS", [])
    keep_secrets("unit-test-key-id", SECRET)
    return SECRET


def fail_with(text: str) -> logging.LogRecord:
    """Return the record of an error that was caused by one with this text."""
    try:
        try:
            raise ValueError(f"sent {text}")
        except ValueError as error:
            raise KeyError(f"got {error}") from error
    except KeyError:
        return logging.getLogger("trader").makeRecord(
            "trader", logging.ERROR, __file__, 1, "failed", (), sys.exc_info(), extra={"detail": {text: [text, 1]}}
        )


@pytest.mark.parametrize(
    "write",
    [
        str,
        repr,
        json.dumps,
        lambda text: quote(text, safe=""),
        lambda text: b64encode(text.encode()).decode().rstrip("="),
    ],
    ids=["plain", "repr", "JSON", "URL", "base64"],
)
def test_a_secret_is_replaced_in_every_form(secret: str, write: Callable[[str], str]) -> None:
    assert redact(f"a {write(secret)} b") in {"a (secret) b", "a '(secret)' b", 'a "(secret)" b'}


def test_a_login_is_replaced(secret: str) -> None:
    login = b64encode(f"unit-test-key-id:{secret}".encode()).decode()
    assert redact(f"Basic {login}").startswith("Basic (secret)")


def test_a_secret_is_replaced_before_a_text_is_cut(secret: str) -> None:
    assert one_line(f"ab {secret}", 6).startswith("ab (se… ")


def test_short_words_are_not_taken_for_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_SECRETS", [])
    keep_secrets("", "-", "secret", "not read")
    assert redact("not read: the secret - of AAPL") == "not read: the secret - of AAPL"


@pytest.mark.skipif(sys.platform != "linux", reason="left out: AWS's runtime client has no wheel for this system")
def test_no_part_of_a_record_holds_a_secret(secret: str) -> None:
    from awslambdaric.lambda_runtime_log_utils import JsonFormatter

    for formatter in (TextFormatter(), JsonFormatter(), logging.Formatter("%(message)s %(detail)s")):
        record = fail_with(secret)
        assert "(secret)" in redact(formatter.format(logging.makeLogRecord(vars(record))))
        assert RedactingFilter().filter(record)
        said = formatter.format(record)
        assert redact(said) == said
        assert "KeyError" in said
        assert "got sent (secret)" in said


def test_an_error_without_a_secret_keeps_its_causes(secret: str) -> None:
    record = fail_with("nothing")
    RedactingFilter().filter(record)
    assert "ValueError: sent nothing" in TextFormatter().format(record)


def test_the_records_of_libraries_are_redacted_too(secret: str, caplog: pytest.LogCaptureFixture) -> None:
    configure()
    logging.getLogger("urllib3").warning("headers: %s", {"APCA-API-SECRET-KEY": secret})
    logging.getLogger("trader").warning("refused: %s", secret)
    assert secret not in caplog.text
    assert caplog.text.count("(secret)") == 2


def test_every_reader_of_the_settings_remembers_their_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_SECRETS", [])
    env = {"ALPACAUSER": "ssm:/key", "ALPACAPW": "a-secret-in-the-environment"}
    Settings.from_env(env, lambda _: {"/key": "a-key-id-in-ssm"})
    assert redact("a-key-id-in-ssm a-secret-in-the-environment") == "(secret) (secret)"


class _PrivateError(ValueError):
    pass


@pytest.mark.parametrize(("error", "said"), [(_PrivateError("no"), "ValueError: no"), (KeyError("x"), "KeyError: 'x'")])
def test_an_error_is_named_by_its_public_class(error: Exception, said: str) -> None:
    assert logs.describe_error(error) == said
