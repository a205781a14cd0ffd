"""What make deploy looks for before it builds, and what it does with the halt switches.

Terraform creates the switches halted, and only new strategies are started.
"""

from pathlib import Path
from typing import Any

import boto3
import pytest

from scripts.cloud import deploy
from scripts.cloud.aws import Cloud, connect
from scripts.cloud.deploy import find_halted, start_new_strategies
from scripts.cloud.terraform import Terraform, Variables
from scripts.console import CommandError
from tests.aws_setup import deny

SWITCH = "/prophet-trader/trend/halt"
NEW = [("aws_lambda_function", "prophet-trader-trend", "create"), ("aws_ssm_parameter", SWITCH, "create")]


@pytest.fixture
def cloud(aws: dict[str, str]) -> Cloud:
    """Return an account with the halted switch of a strategy."""
    boto3.client("ssm").put_parameter(Name=SWITCH, Value="true", Type="String")
    return connect()


# --- the keys ---


class Root(Terraform):
    """Terraform with a strategy, whose plan is not asked for."""

    def variables(self) -> Variables:
        return Variables(
            strategies=["trend"],
            parameters={"trend": {"ALPACAPW": "/mine/pw"}},
            architecture="x86_64",
            python="3.13",
            function_zip=None,
            layer_zip=None,
        )


def test_keys_are_looked_for_before_the_layer_is_built(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    monkeypatch.setattr(deploy, "reason_to_build", lambda _: "there is no layer")
    monkeypatch.setattr(deploy, "build_layer", lambda _: built.append("layer"))
    with pytest.raises(CommandError) as caught:
        deploy.new_plan(Root(cloud), Path("plan"))
    assert "trend: /prophet-trader/trend/alpacauser: not in SSM yet; run make secrets STRATEGY=trend" in str(
        caught.value
    )
    assert "trend: /mine/pw: no such SSM parameter" in str(caught.value)
    assert not built


def test_with_all_keys_the_layer_is_built(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("/prophet-trader/trend/alpacauser", "/mine/pw"):
        boto3.client("ssm").put_parameter(Name=name, Value="x", Type="SecureString")
    built: list[str] = []
    monkeypatch.setattr(deploy, "reason_to_build", lambda _: "there is no layer")
    monkeypatch.setattr(deploy, "build_layer", lambda _: built.append("layer"))
    monkeypatch.setattr(deploy, "make_package", lambda _: None)
    monkeypatch.setattr(deploy, "make_plan", lambda *_: {})
    deploy.new_plan(Root(cloud), Path("plan"))
    assert built == ["layer"]


# --- the halt switches ---


def plan(*changes: tuple[str, str, str]) -> dict[str, Any]:
    """Return a plan with these changes: type, name, actions."""
    return {
        "output_changes": {"strategies": {"after": {"trend": {}}}},
        "resource_changes": [
            {
                "mode": "managed",
                "type": kind,
                "change": {"actions": actions.split(), "after": {"function_name": name, "name": name}},
            }
            for kind, name, actions in changes
        ],
    }


def switch() -> str:
    return boto3.client("ssm").get_parameter(Name=SWITCH)["Parameter"]["Value"]


def test_a_new_strategy_trades_after_its_deployment(cloud: Cloud) -> None:
    start_new_strategies(cloud, plan(*NEW))
    assert (switch(), list(find_halted(cloud, ["trend"]))) == ("false", [])


@pytest.mark.parametrize(
    "changes",
    [
        [],
        [NEW[1]],
        [NEW[0]],
        [("aws_lambda_function", "prophet-trader-trend", "update"), NEW[1]],
        [("aws_lambda_function", "prophet-trader-trend", "delete create"), NEW[1]],
        [NEW[0], ("aws_ssm_parameter", SWITCH, "delete create")],
        [NEW[0], ("aws_ssm_parameter", "/prophet-trader/other/halt", "create")],
    ],
)
def test_any_other_halted_strategy_stays_halted_and_is_named(cloud: Cloud, changes: list[tuple[str, str, str]]) -> None:
    start_new_strategies(cloud, plan(*changes))
    assert switch() == "true"
    assert list(find_halted(cloud, ["trend"])) == ["trend is halted; to let it trade: make resume STRATEGY=trend"]


def test_a_strategy_without_a_switch_is_named(cloud: Cloud) -> None:
    boto3.client("ssm").delete_parameter(Name=SWITCH)
    assert list(find_halted(cloud, ["trend"])) == [
        "trend is halted: it has no halt switch; make deploy creates it again"
    ]


def test_a_new_strategy_that_cannot_be_started_is_named(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    deny(monkeypatch, "put_parameter", SWITCH)
    with pytest.raises(CommandError, match=r"but trend is halted: .*\n.*make resume STRATEGY=trend"):
        start_new_strategies(cloud, plan(*NEW))
