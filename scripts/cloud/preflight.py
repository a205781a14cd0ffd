"""Check a plan, before anything changes, for problems that would make a deployment fail halfway or do harm."""

import json
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import batched
from pathlib import Path
from typing import Any

import boto3

from scripts import console
from scripts.cloud import rule_gate
from scripts.cloud.aws import CONFIG, Cloud, DeniedError, MissingError, translate_errors
from scripts.cloud.terraform import has_bucket
from scripts.console import CommandError
from scripts.layer.archive import sha256
from trader.alpha.rule import PREFIX
from trader.settings import REFERENCE, Settings, SettingsError, variables

KEYS = ("ALPACAUSER", "ALPACAPW")
UNREAD = ("HALT_PARAMETER", "MESSAGE_URL")
"""References that a plan does not follow: the function reads the switch itself, and an address need not exist."""

STAND_IN = "stands-in-for-the-key"
"""The value assumed for the keys: these checks do not read the real ones."""

OTHERS = r"AWS_.*|PYTHON.*|LC_.*|LANG|TZ|.*_PROXY|SSL_CERT_.*|.*_CA_BUNDLE"
"""Variables in a function's environment that belong to Python and libraries and are not settings."""

MAX_BYTES = 4_096
"""Lambda's limit in bytes for all of a function's variables, which it measures as JSON."""

type Find = Callable[[boto3.Session, str], object]
"""A look-up of a resource by name: true if it exists. Raises botocore's errors."""

EXISTING: Mapping[str, tuple[str, Find]] = {
    "aws_cloudwatch_log_group": ("name", lambda session, name: _find_log_group(session, name)),
    "aws_iam_role": ("name", lambda session, name: session.client("iam", config=CONFIG).get_role(RoleName=name)),
    "aws_lambda_function": (
        "function_name",
        lambda session, name: session.client("lambda", config=CONFIG).get_function_configuration(FunctionName=name),
    ),
    "aws_ssm_parameter": ("name", lambda session, name: session.client("ssm", config=CONFIG).get_parameter(Name=name)),
}
"""The types of resources that AWS refuses to create twice: the attribute that is the name and Terraform's id, and how
to find one. A log group is the most likely: a function's last run makes it again after it was deleted.
"""

type PlanJson = Mapping[str, Any]
"""A saved plan as `terraform show -json` prints it."""


@dataclass(frozen=True, slots=True)
class Findings:
    """The problems that prevent a deployment, and notes that do not."""

    problems: Sequence[str] = field(default_factory=list)
    notes: Sequence[str] = field(default_factory=list)

    def __add__(self, other: "Findings") -> "Findings":
        return Findings([*self.problems, *other.problems], [*self.notes, *other.notes])


def check(cloud: Cloud, plan: PlanJson, folder: Path) -> Sequence[str]:
    """Return the notes on a plan of the root in `folder`. Raises CommandError with all problems, if there are any."""
    wanted = strategies(plan)
    found = check_taken_bucket(cloud, plan) + check_moved_bucket(plan) + other_files(plan, folder)
    found += check_existing(cloud, plan, folder) + check_bucket_in_ci(cloud, plan)
    for name, strategy in wanted.items():
        found += settings(cloud, name, strategy["environment"])
    found += Findings(list(rule_gate.check(wanted, find_zips(plan, folder))))
    found += parameters(cloud, wanted) + undone_rollbacks(plan) + check_removed_strategies(plan)
    refuse(found)
    return list(dict.fromkeys(found.notes))


def check_parameters(cloud: Cloud, own: Mapping[str, Mapping[str, str]]) -> None:
    """Raise CommandError if SSM lacks parameters of the strategies; `own` are those that they do not name as usual.

    It needs no plan, and so no layer.
    """
    wanted = {}
    for name, its in own.items():
        paths = {key: cloud.parameter(name, key.lower()) for key in KEYS} | dict(its)
        references = {key: f"{REFERENCE}{path}" for key, path in paths.items()}
        wanted[name] = {"environment": references, "parameters": sorted(paths.values())}
    refuse(parameters(cloud, wanted))


def refuse(found: Findings) -> None:
    """Raise CommandError with all problems, if there are any."""
    if found.problems:
        raise CommandError("nothing was changed; fix these problems first:\n" + "\n".join(map(bullet, found.problems)))


def bullet(text: str) -> str:
    """Format a line of a list."""
    return f"  - {text}"


def strategies(plan: PlanJson, when: str = "after") -> Mapping[str, Any]:
    """Return the output `strategies` after the plan (`after`) or before it (`before`), as far as it is known."""
    found: Mapping[str, Any] = plan.get("output_changes", {}).get("strategies", {}).get(when) or {}
    return found


def changes(plan: PlanJson, kind: str = "") -> Iterator[Mapping[str, Any]]:
    """Yield the plan's resources of a type, each with its `change`; data sources are left out."""
    for resource in plan.get("resource_changes", ()):
        if resource["mode"] == "managed" and kind in {"", resource["type"]}:
            yield resource


def check_taken_bucket(cloud: Cloud, plan: PlanJson) -> Findings:
    """Find a bucket that the plan creates but that exists: another account's, or this project's from another folder."""
    for resource in changes(plan, "aws_s3_bucket"):
        if resource["change"]["actions"] != ["create"]:
            continue
        name = resource["change"]["after"]["bucket"]
        try:
            if not has_bucket(cloud, name):
                continue
        except DeniedError:
            problem = (
                f"the bucket {name} belongs to another account, or these credentials may not access it: choose another "
                'name with bucket_name = "..." in terraform/terraform.tfvars'
            )
            return Findings([problem])
        problem = (
            f"the bucket {name} already exists, but it is not in Terraform's state here: {cloud.project} was deployed "
            "from another folder or computer, which has the state in terraform/terraform.tfstate. Deploy from there; "
            "or run make bootstrap and make plan there, which move the state into a bucket that this folder can use "
            "too. For a second installation, choose another name with PROJECT=..."
        )
        return Findings([problem])
    return Findings()


def check_existing(cloud: Cloud, plan: PlanJson, folder: Path) -> Findings:
    """Find resources that the plan creates but that exist: each would stop the deployment halfway, again and again."""
    found = Findings()
    for resource in changes(plan):
        name, find = EXISTING.get(resource["type"], ("", None))
        if find is None or resource["change"]["actions"] != ["create"]:
            continue
        its = resource["change"]["after"][name]
        try:
            with translate_errors(f"{resource['address']} ({its})"):
                exists = find(cloud.session, its)
        except MissingError:
            continue
        except DeniedError as error:
            found += Findings(notes=[f"not checked whether it exists already: {error}"])
            continue
        if exists:
            found += Findings([_existing(cloud, resource, its, folder)])
    return found


def _existing(cloud: Cloud, resource: Mapping[str, Any], name: str, folder: Path) -> str:
    put_in = (
        f"AWS_REGION={cloud.region} TF_VAR_project={cloud.project} terraform -chdir={shlex.quote(str(folder))} import "
        f"{shlex.quote(resource['address'])} {shlex.quote(name)}"
    )
    text = (
        f"{name} ({resource['type']}) already exists, but it is not in Terraform's state, and AWS will not create it "
        f"again. To keep it as it is, with what is in it: {put_in}"
    )
    if resource["type"] == "aws_cloudwatch_log_group":
        delete = f"aws logs delete-log-group --region {cloud.region} --log-group-name {shlex.quote(name)}"
        text += f"\n    To delete it with all its log lines instead: {delete}"
    return text


def _find_log_group(session: boto3.Session, name: str) -> bool:
    pages = session.client("logs", config=CONFIG).get_paginator("describe_log_groups")
    return any(
        each["logGroupName"] == name for page in pages.paginate(logGroupNamePrefix=name) for each in page["logGroups"]
    )


def check_bucket_in_ci(cloud: Cloud, plan: PlanJson) -> Findings:
    """Find changes of the bucket itself that GitHub's roles may not make: they would be refused halfway."""
    changed = [
        resource["address"]
        for resource in changes(plan)
        if resource["type"].startswith("aws_s3_bucket") and resource["change"]["actions"] != ["no-op"]
    ]
    if not changed:
        return Findings()
    with translate_errors("the name of this role"):
        arn = cloud.session.client("sts", config=CONFIG).get_caller_identity()["Arn"]
    if f":assumed-role/{cloud.project}-ci-" not in arn:
        return Findings()
    problem = (
        f"GitHub's roles may not change the bucket ({', '.join(changed)}), so that none of them can delete the "
        "journal; run make deploy once on your own computer, with your own credentials"
    )
    return Findings([problem])


def check_moved_bucket(plan: PlanJson) -> Findings:
    """Find a bucket that the plan would delete: it holds the journal, so the deletion would fail halfway."""
    gone = [
        each["change"]["before"]["bucket"]
        for each in changes(plan, "aws_s3_bucket")
        if "delete" in each["change"]["actions"]
    ]
    return Findings(
        [
            f"the bucket {name} would be deleted, and the journal with it: bucket_name cannot be changed once there "
            "are records; run make destroy, which can keep a copy (KEEP_JOURNAL=folder), and then make deploy"
            for name in gone
        ]
    )


def find_zips(plan: PlanJson, folder: Path) -> Mapping[Path, str]:
    """Return the zips that the plan uploads, or that it leaves as they are, with the hash that AWS has then."""
    after = [each["change"]["after"] or {} for each in changes(plan, "aws_s3_object")]
    return {
        Path(os.path.normpath(folder / each["source"])): each.get("source_hash") or ""
        for each in after
        if each.get("source")
    }


def other_files(plan: PlanJson, folder: Path) -> Findings:
    """Find zips that the plan uploads but that are missing or have changed since it was made."""
    problems = []
    for resource in changes(plan, "aws_s3_object"):
        after = resource["change"]["after"] or {}
        if resource["change"]["actions"] == ["no-op"] or not (after.get("source") and after.get("source_hash")):
            continue
        file = Path(os.path.normpath(folder / after["source"]))
        if not file.is_file():
            problems.append(f"{file}, which the plan uploads, is missing; make a new plan, or restore the file")
        elif sha256(file) != after["source_hash"]:
            problems.append(f"{file} has changed since the plan was made; make a new plan")
    return Findings(list(dict.fromkeys(problems)))


def settings(cloud: Cloud, name: str, environment: Mapping[str, str]) -> Findings:
    """Find the problems with the function's environment that it would report at its start."""
    references = {
        variable: text.removeprefix(REFERENCE)
        for variable, text in environment.items()
        if text.startswith(REFERENCE) and variable not in UNREAD
    }
    known = {parameter: STAND_IN for variable, parameter in references.items() if variable in KEYS}
    asked = sorted(set(references.values()) - set(known))
    notes = []
    try:
        known |= values(cloud, asked)
    except DeniedError:
        notes.append(f"{name}: parameters not checked (these credentials may not read them): {', '.join(asked)}")
    unread = [f"{variable}={environment[variable]}:" for variable, text in references.items() if text not in known]
    problems: list[str] = []
    try:
        Settings.from_env(environment, lambda names: {each: known[each] for each in names if each in known})
    except SettingsError as error:
        problems += [problem for problem in error.problems if not problem.startswith(tuple(unread))]
    known_names = variables()
    strangers = [
        each
        for each in environment
        # Parameters of own rules are what Settings looks at.
        if each not in known_names and not each.startswith(PREFIX) and not re.fullmatch(OTHERS, each)
    ]
    problems += [
        f"{each} is not a setting; docs/reference/settings.md lists all settings"
        for each in strangers
        if not any(problem.startswith(f"{each} ") for problem in problems)
    ]
    size_bytes = len(json.dumps(environment, separators=(",", ":"), ensure_ascii=False).encode())
    if size_bytes > MAX_BYTES:
        problems.append(
            f"its variables take {size_bytes:,} bytes as JSON, but Lambda allows {MAX_BYTES:,}: shorten UNIVERSE, or "
            "move it to SSM with the strategy's parameters"
        )
    return Findings([f"{name}: {problem}" for problem in problems], notes)


def values(cloud: Cloud, names: Sequence[str]) -> Mapping[str, str]:
    """Return the values of parameters other than keys; those that do not exist are left out."""
    found: dict[str, str] = {}
    for some in batched(names, 10, strict=False):
        with translate_errors("the parameters of the strategies"):
            ssm = cloud.session.client("ssm", config=CONFIG)
            answer = ssm.get_parameters(Names=list(some), WithDecryption=True)["Parameters"]
        found |= {item["Name"]: item["Value"] for item in answer}
    return found


def parameters(cloud: Cloud, wanted: Mapping[str, Any]) -> Findings:
    """Find parameters that the functions need but that are missing or not secret. No value is read."""
    names = sorted({parameter for strategy in wanted.values() for parameter in strategy["parameters"]})
    try:
        types = types_of(cloud, names)
    except DeniedError:
        return Findings(
            notes=[
                "no SSM parameter was checked: these credentials may not list them; run make secrets if you have not"
            ]
        )
    problems: list[str] = []
    for name, strategy in wanted.items():
        keys = {strategy["environment"].get(key, "").removeprefix(REFERENCE) for key in KEYS}
        missing = [parameter for parameter in strategy["parameters"] if parameter not in types]
        made_by_us = [each for each in missing if each in {cloud.parameter(name, key.lower()) for key in KEYS}]
        if made_by_us:
            problems.append(f"{name}: {', '.join(made_by_us)}: not in SSM yet; run make secrets STRATEGY={name}")
        for each in missing:
            if each not in made_by_us:
                kind = "SecureString" if each in keys else "String"
                problems.append(
                    f"{name}: {each}: no such SSM parameter; create it: aws ssm put-parameter --name {each} "
                    f"--type {kind} --tags Key=project,Value={cloud.project} --value ..."
                )
        problems += [
            f"{name}: {each} is a {types[each]}, which is not secret; delete it (aws ssm delete-parameter "
            f"--name {each}) and run make secrets STRATEGY={name}"
            for each in sorted(keys & types.keys())
            if types[each] != "SecureString"
        ]
    return Findings(problems)


def types_of(cloud: Cloud, names: Sequence[str]) -> Mapping[str, str]:
    """Return the type of each parameter that exists, by name."""
    found: dict[str, str] = {}
    for some in batched(names, 50, strict=False):
        with translate_errors("the parameters of the strategies"):
            pages = cloud.session.client("ssm", config=CONFIG).get_paginator("describe_parameters")
            filters = pages.paginate(ParameterFilters=[{"Key": "Name", "Option": "Equals", "Values": list(some)}])
            found |= {item["Name"]: item["Type"] for page in filters for item in page["Parameters"]}
    return found


def undone_rollbacks(plan: PlanJson) -> Findings:
    """Find rollbacks by `make rollback` that the plan would undo although the code has not changed."""
    if console.flag("UNDO_ROLLBACK"):
        return Findings()
    functions = {
        resource["change"]["before"]["function_name"]: resource["change"]
        for resource in changes(plan, "aws_lambda_function")
        if resource["change"]["before"] and resource["change"]["after"]
    }
    problems = []
    for resource in changes(plan, "aws_lambda_alias"):
        before, after = resource["change"]["before"], resource["change"]["after"]
        function = functions.get(before["function_name"]) if before and after else None
        if function is None or resource["change"]["actions"] == ["no-op"]:
            continue
        live, newest = before["function_version"], function["before"]["version"]
        is_older = live.isdigit() and newest.isdigit() and int(live) < int(newest)
        if is_older and function["after"].get("source_code_hash") == function["before"]["source_code_hash"]:
            problems.append(
                f"{before['function_name']} was rolled back to version {live}, and this would restore the code of "
                f"version {newest} unchanged. Change the code first; or, if that is what you want: "
                "make deploy UNDO_ROLLBACK=1"
            )
    return Findings(problems)


def check_removed_strategies(plan: PlanJson) -> Findings:
    """Find strategies that would be removed: their positions stay."""
    gone = sorted(strategies(plan, "before").keys() - strategies(plan).keys())
    return Findings(
        notes=[
            f"{name} will be removed; its positions and open orders at Alpaca stay, and nothing will manage them"
            for name in gone
        ]
    )
