"""`make deploy`: build what is missing, and apply terraform/ to AWS. PLAN=file applies that saved plan instead."""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from scripts import console
from scripts.cloud import halt, preflight
from scripts.cloud.aws import CONFIG, AwsError, Cloud, DeniedError, MissingError, connect, translate_errors
from scripts.cloud.plan import counts, in_words, make_package, make_plan, reason_to_build, show_strategies
from scripts.cloud.terraform import Terraform, Variables
from scripts.console import CommandError, format_count


def main() -> None:
    """Build, plan, check the plan for problems, apply it, and show what runs now."""
    with (
        console.plain_errors(
            interrupted="interrupted; the changes made so far stay, and make deploy continues from there"
        ),
        TemporaryDirectory() as name,
    ):
        root = Terraform(connect())
        root.init()
        given = os.environ.get("PLAN")
        file = Path(given) if given else Path(name) / "plan"
        plan = root.show(file) if given else new_plan(root, file)
        notes = preflight.check(root.cloud, plan, root.folder)
        number = counts(plan).total()
        warn(plan)
        for note in notes:
            console.note(f"Note: {note}")
        console.note(in_words(plan))
        if plan.get("applyable", True):
            root.apply(file, number)
        outputs = root.outputs()
        start_new_strategies(root.cloud, plan)
        for note in find_halted(root.cloud, outputs["strategies"]):
            console.note(note)
        address = find_unconfirmed_address(root.cloud, outputs["alarm_topic_arn"])
        if not address and not is_anybody_told(root.cloud, outputs["alarm_topic_arn"]):
            console.note(
                "Nobody is notified of alarms: set alarm_email in terraform/terraform.tfvars, or watch the dashboard"
            )
        if console.wants_json():
            result = {**counts(plan), "outputs": outputs, "unconfirmed_email": address, "notes": list(notes)}
            console.print_json(result)
        else:
            show(outputs, number, address)


def new_plan(root: Terraform, file: Path) -> preflight.PlanJson:
    """Build what is missing, and return a plan. Raises CommandError before the build if keys are missing."""
    variables = root.variables()
    if reason := reason_to_build(variables):
        preflight.check_parameters(root.cloud, variables.parameters)
        console.note(f"{reason}: building the layer")
        build_layer(variables)
    make_package(variables)
    return make_plan(root, file)


def build_layer(variables: Variables) -> None:
    """Run `make layer` for the architecture and Python in Terraform's variables; its output goes to stderr."""
    env = {**os.environ, "ARCH": variables.architecture, "PYTHON": variables.python, "JSON": ""}
    done = subprocess.run([sys.executable, "-m", "scripts", "layer"], check=False, env=env, stdout=sys.stderr)
    if done.returncode != 0:
        raise CommandError("the layer could not be built (see above), so nothing was deployed; make deploy tries again")


def warn(plan: preflight.PlanJson) -> None:
    """Print which strategies will trade real money."""
    modes = {name: its["environment"].get("MODE") for name, its in preflight.strategies(plan).items()}
    if live := [name.upper() for name, mode in modes.items() if mode == "live"]:
        console.ERR.print(f"REAL MONEY: {', '.join(live)}", style="bold red", markup=False)


def start_new_strategies(cloud: Cloud, plan: preflight.PlanJson) -> None:
    """Turn off the halt switch of each strategy that this deployment has created, with its function and its switch.

    Terraform creates every switch halted. One whose function existed before was deleted, which halts as well: it stays.
    """
    created = {
        each["change"]["after"][name]
        for kind, name in (("aws_lambda_function", "function_name"), ("aws_ssm_parameter", "name"))
        for each in preflight.changes(plan, kind)
        if each["change"]["actions"] == ["create"]
    }
    for name in preflight.strategies(plan):
        if {cloud.function(name), cloud.parameter(name, "halt")} <= created:
            try:
                halt.write(cloud, name, halt.VALUES["resume"])
            except AwsError as error:
                raise CommandError(
                    f"everything is deployed, but {name} is halted: {error}\n"
                    f"to let it trade: make resume STRATEGY={name}"
                ) from error


def find_halted(cloud: Cloud, names: Iterable[str]) -> Iterator[str]:
    """Yield a note on each strategy that does not trade because of its halt switch."""
    for name in names:
        try:
            value, _ = halt.read(cloud, name)
        except DeniedError:
            continue  # credentials that may deploy need not read the switch
        except MissingError:
            yield f"{name} is halted: it has no halt switch; make deploy creates it again"
            continue
        if value != halt.VALUES["resume"]:
            yield f"{name} is {halt.in_words(value)}; to let it trade: make resume STRATEGY={name}"


def find_unconfirmed_address(cloud: Cloud, topic_arn: str) -> str | None:
    """Return the e-mail address that has not yet confirmed its subscription to alarms; None if none is known."""
    try:
        with translate_errors("the subscriptions to alarms"):
            pages = cloud.session.client("sns", config=CONFIG).get_paginator("list_subscriptions_by_topic")
            found = [each for page in pages.paginate(TopicArn=topic_arn) for each in page["Subscriptions"]]
    except AwsError as error:
        console.note(str(error))
        return None
    waiting = [each["Endpoint"] for each in found if each["SubscriptionArn"] == "PendingConfirmation"]
    return waiting[0] if waiting else None


def is_anybody_told(cloud: Cloud, topic_arn: str) -> bool:
    """Check whether the alarm topic has a subscription; True if this is unknown."""
    try:
        with translate_errors("the subscriptions to alarms"):
            sns = cloud.session.client("sns", config=CONFIG)
            return bool(sns.list_subscriptions_by_topic(TopicArn=topic_arn)["Subscriptions"])
    except AwsError:
        return True


def show(outputs: Mapping[str, Any], number: int, address: str | None) -> None:
    """Print what runs, where to watch it, and what to do next."""
    strategies = outputs["strategies"]
    done = f"Deployed: {format_count(number, 'change')}." if number else "Nothing to change: AWS matches terraform/."
    show_strategies(strategies)
    console.OUT.print()
    console.OUT.print(f" {done}", style="green", markup=False)
    console.OUT.print(f" Dashboard: {outputs['dashboard_url']}", markup=False, soft_wrap=True)
    if address:
        console.OUT.print(
            f" {address} gets no alarms yet: AWS has sent it a message with a confirmation link.",
            style="bold yellow",
            markup=False,
        )
    console.OUT.print(f" Next: {', '.join(next_steps(list(strategies)))}", markup=False, soft_wrap=True)


def next_steps(names: Sequence[str]) -> Sequence[str]:
    """Return commands to suggest after a deployment."""
    which = f" STRATEGY={sorted(names)[0]}" if len(names) > 1 else ""
    return f"make invoke{which} (a run now)", f"make logs QUERY=orders{which}", f"make halt{which} (stops trading)"
