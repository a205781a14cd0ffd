"""`make plan`: show what a deployment would change, and change nothing. OUT=file saves the plan for make deploy."""

import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.text import Text

from scripts import console
from scripts.cloud import preflight, rhythms
from scripts.cloud.aws import CONFIG, Cloud, DeniedError, connect, translate_errors
from scripts.cloud.tables import TableRow, show_table
from scripts.cloud.terraform import Terraform, Variables
from scripts.console import CommandError
from scripts.files import OUT as OUT_FOLDER
from scripts.layer import manifest
from scripts.layer.package import package
from scripts.layer.target import Target


def main() -> None:
    """Package the function, plan, check the plan for problems, and show the result."""
    with (
        console.plain_errors(interrupted="interrupted; nothing was changed"),
        TemporaryDirectory() as name,
    ):
        root = Terraform(connect())
        root.init()
        variables = root.variables()
        if reason := reason_to_build(variables):
            target = Target(variables.python, variables.architecture)
            raise CommandError(f"{reason}; build the layer with {target.make('layer')} or make deploy")
        make_package(variables)
        file = Path(name) / "plan"
        plan = make_plan(root, file, lock=console.flag("LOCK", default=True))
        if not console.wants_json():
            console.OUT.print(Text.from_ansi(root.text(file)), soft_wrap=True)
        notes = preflight.check(root.cloud, plan, root.folder)
        out = os.environ.get("OUT") or None
        if out:
            keep(file, Path(out))
        if console.wants_json():
            console.print_json(as_json(plan, out, notes))
        else:
            show(plan, notes)
            if out:
                console.OUT.print(f" saved as {out}; to apply it: make deploy PLAN={out}", markup=False)


def make_plan(root: Terraform, file: Path, *, lock: bool = True) -> dict[str, Any]:
    """Plan, and plan again if an earlier deployment was interrupted while it updated a function."""
    root.plan(file, lock=lock)
    plan = root.show(file)
    if begun := find_unfinished(root.cloud, plan):
        console.note("an earlier deployment was interrupted while it updated a function; this plan completes it")
        root.plan(file, lock=lock, replace=begun)
        plan = root.show(file)
    return plan


def find_unfinished(cloud: Cloud, plan: preflight.PlanJson) -> Sequence[str]:
    """Return the code objects of functions that the plan considers complete but AWS has not fully updated.

    Terraform's provider records new code in the state before AWS has accepted it, and never checks again: after an
    update that failed halfway it would plan "no changes" forever. A new object makes it upload and publish again.
    """
    found = []
    for resource in preflight.changes(plan, "aws_lambda_function"):
        change = resource["change"]
        if change["actions"] == ["no-op"] and not is_complete(cloud, change["after"]):
            found.append(resource["address"].replace("aws_lambda_function.this", "aws_s3_object.code"))
    return found


def is_complete(cloud: Cloud, function: Mapping[str, Any]) -> bool:
    """Check that $LATEST has the state's code and that the newest version equals $LATEST; True if access is denied."""
    client = cloud.session.client("lambda", config=CONFIG)
    name = function["function_name"]
    try:
        with translate_errors(f"the versions of {name}"):
            pages = client.get_paginator("list_versions_by_function").paginate(FunctionName=name)
            versions: dict[str, Mapping[str, Any]] = {
                item["Version"]: item for page in pages for item in page["Versions"]
            }
    except DeniedError as error:
        console.note(str(error))
        return True
    latest = versions["$LATEST"]
    newest = versions[max((each for each in versions if each.isdigit()), key=int, default="$LATEST")]
    parts = ("CodeSha256", "Environment", "Layers", "MemorySize", "Timeout", "Runtime")
    return latest["CodeSha256"] == function["source_code_hash"] and all(
        newest.get(part) == latest.get(part) for part in parts
    )


def reason_to_build(variables: Variables) -> str:
    """Return why the layer has to be built or rebuilt; empty if it is current or Terraform's layer_zip names one."""
    return "" if variables.layer_zip else manifest.reason_to_build(Target(variables.python, variables.architecture))


def make_package(variables: Variables) -> None:
    """Zip the function, unless Terraform's function_zip names another zip."""
    if not variables.function_zip:
        package()


def keep(file: Path, out: Path) -> None:
    """Save the plan as `out`. Raises CommandError if it cannot be written."""
    try:
        shutil.copyfile(file, out)
    except OSError as error:
        raise CommandError(f"OUT={out} cannot be written: {error.strerror}") from error


def counts(plan: preflight.PlanJson) -> Counter[str]:
    """Count the resources that the plan adds, changes and destroys; a replaced one counts twice, as in Terraform."""
    actions = Counter(action for resource in preflight.changes(plan) for action in resource["change"]["actions"])
    return Counter(add=actions["create"], change=actions["update"], destroy=actions["delete"])


def in_words(plan: preflight.PlanJson) -> str:
    """Return the counts as a sentence."""
    number = counts(plan)
    if not number.total():
        return "Nothing to change."
    return f"{number['add']} to add, {number['change']} to change, {number['destroy']} to destroy."


def as_json(plan: preflight.PlanJson, out: str | None, notes: Sequence[str]) -> dict[str, object]:
    """Return the plan in JSON's types. Outputs that are unknown before the deployment are null."""
    return {
        "plan": out,
        **counts(plan),
        "changes": [
            {"address": resource["address"], "actions": resource["change"]["actions"]}
            for resource in preflight.changes(plan)
            if resource["change"]["actions"] != ["no-op"]
        ],
        "outputs": {name: output.get("after") for name, output in plan.get("output_changes", {}).items()},
        "schedules": describe_schedules(plan),
        "notes": list(notes),
    }


def describe_schedules(plan: preflight.PlanJson) -> Mapping[str, str]:
    """Say of each planned strategy that is enabled how often it runs, and whether that is what was tested."""
    enabled = {name: its for name, its in preflight.strategies(plan).items() if its.get("enabled", True)}
    return rhythms.describe_strategies(enabled, OUT_FOLDER)


def show(plan: preflight.PlanJson, notes: Sequence[str]) -> None:
    """Print the planned strategies, whether their schedules were tested, the counts and the notes."""
    show_strategies(preflight.strategies(plan))
    console.OUT.print()
    for name, words in describe_schedules(plan).items():
        console.OUT.print(f" {name} {words}", markup=False, soft_wrap=True)
    for note in notes:
        console.OUT.print(f" Note: {note}", style="yellow", markup=False, soft_wrap=True)
    console.OUT.print(f" {in_words(plan)}", style="bold", markup=False)


def show_strategies(strategies: Mapping[str, Mapping[str, Any]]) -> None:
    """Print a table of the strategies, with the live ones in capitals."""
    rows = []
    for name, its in sorted(strategies.items()):
        mode = its["environment"].get("MODE", "")
        is_live = mode == "live"
        cells = (
            name.upper() if is_live else name,
            "LIVE: REAL MONEY" if is_live else mode,
            str(its.get("version", "new")),
            its["schedule"] if its.get("enabled", True) else f"off ({its['schedule']})",
            its["function_name"],
        )
        rows.append(TableRow(cells=cells, style="bold red" if is_live else ""))
    show_table(("Strategy", "Mode", "Version", "Schedule (UTC)", "Function"), rows)
