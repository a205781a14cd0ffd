import json
import logging
import sys

import pytest

from trader.logs import TextFormatter, configure


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
