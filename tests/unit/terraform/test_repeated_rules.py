"""Rules that Terraform repeats because it cannot import Python; each is compared with the Python rule."""

import re
from datetime import date

import pytest

from scripts import ROOT
from scripts.cloud import aws, cron
from scripts.cloud.cron import Schedule
from trader.model import Code
from trader.settings import STRATEGY_NAME, SettingsError

TERRAFORM = ROOT / "terraform"
CRON = (TERRAFORM / "modules/schedule/cron.tf").read_text()

WHOLE_RUN = {
    *(
        Code.HALTED,
        Code.MARKET_CLOSED,
        Code.ALREADY_RAN,
        Code.UNDER_WAY,
        Code.NOT_DUE,
        Code.ACCOUNT_BLOCKED,
        Code.ACCOUNT_TAKEN,
        Code.RULE_FAILED,
    )
}
"""Codes that can be the status of a run but never the code of a denial."""


def patterns(path: str, variable: str) -> list[str]:
    """Return the regular expressions that `regex(..., variable)` applies in a file, without their anchors."""
    text = (TERRAFORM / path).read_text()
    return [unescape(found) for found in re.findall(rf'regex\("\^((?:[^"\\]|\\.)*)\$", {re.escape(variable)}\)', text)]


def unescape(text: str) -> str:
    """Return an HCL string as Terraform reads it."""
    return text.replace("\\\\", "\\")


def test_a_strategy_name_has_the_same_rule_as_in_the_settings() -> None:
    assert patterns("variables.tf", "name")[0] == STRATEGY_NAME


@pytest.mark.parametrize("path", ["variables.tf", "bootstrap/variables.tf"])
def test_a_project_name_has_the_same_rule_as_in_the_commands(path: str) -> None:
    (allowed,) = patterns(path, "var.project")
    assert f"(?!aws|ssm){allowed}" == aws.PROJECT_NAME
    assert '!can(regex("^(aws|ssm)", var.project))' in (TERRAFORM / path).read_text()


def test_daily_at_has_the_same_rule_as_in_the_commands() -> None:
    assert patterns("variables.tf", "its.daily_at") == [f"({cron.DAILY_AT})"]


def test_the_commands_read_the_default_schedule_from_terraform() -> None:
    assert cron.read_default() == "cron(0/15 13-21 ? * MON-FRI *)"


def test_the_dashboard_counts_every_code_that_a_denial_can_have() -> None:
    text = (TERRAFORM / "modules/monitoring/dashboard.tf").read_text()
    listed = re.findall(r'"(\w+)"', text.split("codes = [")[1].split("]")[0])
    assert sorted(listed) == sorted({*Code} - WHOLE_RUN)


# --- cron ------------------------------------------------------------------------------------------------------------


def cron_patterns() -> list[str]:
    """Return the pattern of each field in cron.tf, assembled as Terraform does."""
    values = dict(re.findall(r'^  (\w+) += "(.*)"$', CRON, re.MULTILINE))
    order = re.search(r"for value in \[(.*?)\]", CRON)
    element = re.search(r'\] :\n    "(.*)"\n', CRON)
    assert order, element
    assert element
    elements = [
        element[1].replace("${value}", values[name.strip().removeprefix("local.")]) for name in order[1].split(",")
    ]
    found = re.findall(r'^    "\^(.*)\$",$', CRON, re.MULTILINE)
    for name, value in values.items():
        found = [pattern.replace(f"${{local.{name}}}", value) for pattern in found]
    for number, each in enumerate(elements):
        found = [pattern.replace(f"${{local.elements[{number}]}}", each) for pattern in found]
    return [unescape(pattern) for pattern in found]


PATTERNS = cron_patterns()


def terraform_takes(fields: list[str]) -> bool:
    return all(re.fullmatch(pattern, field) for pattern, field in zip(PATTERNS, fields, strict=True))


def command_takes(fields: list[str]) -> bool:
    try:
        list(Schedule(f"cron({' '.join(fields)})").times(date(2026, 11, 23), 1))
    except SettingsError:
        return False
    return True


FIELDS = (
    ["0", "59", "60", "05", "*", "*/15", "0/15", "5-10", "5-10/2", "1,2", "0,", "?", "x", "-1", "0/0", "0/100", "*-5"],
    ["0", "23", "24", "9,17", "13-21", "*/2", "07", "nine", "?"],
    ["1", "31", "0", "32", "1-5", "*/2", "1,15", "01", "JAN"],
    ["1", "12", "0", "13", "JAN", "JAN-MAR", "jan", "1,JUN", "*", "MON", "?"],
    ["1", "7", "0", "8", "MON", "MON-FRI", "MON,WED", "mon", "*", "2-6/2", "JAN"],
    ["1970", "2199", "1969", "2200", "2026-2028", "*", "26", "2026/2", "?"],
)
"""Valid and invalid values for each field of a cron expression."""


@pytest.mark.parametrize(("place", "value"), [(place, value) for place, some in enumerate(FIELDS) for value in some])
def test_terraform_and_make_cost_accept_the_same_schedules(place: int, value: str) -> None:
    fields = ["0", "9", "*", "*", "?", "*"] if place == 2 else ["0", "9", "?", "*", "MON", "*"]
    fields[place] = value
    assert terraform_takes(fields) == command_takes(fields)


@pytest.mark.parametrize("value", ["L", "15W", "MON#1", "6L"])
def test_terraform_accepts_what_make_cost_cannot_count(value: str) -> None:
    place = 2 if value in {"L", "15W"} else 4
    fields = ["0", "9", "*", "*", "?", "*"] if place == 2 else ["0", "9", "?", "*", "MON", "*"]
    fields[place] = value
    assert (terraform_takes(fields), command_takes(fields)) == (True, False)
