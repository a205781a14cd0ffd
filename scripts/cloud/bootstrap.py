"""`make bootstrap`: create, once per account and region, what Terraform and GitHub need before the first deployment.

It creates a bucket for Terraform's state, the policy that limits what functions may do, and the two roles with which a
GitHub repository plans and deploys. It can be run again at any time, from any computer: its state is in that bucket.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from rich.prompt import Confirm

from scripts import console
from scripts.cloud.aws import (
    CONFIG,
    PROJECT,
    AwsError,
    Cloud,
    DeniedError,
    MissingError,
    UsageError,
    connect,
    translate_errors,
)
from scripts.cloud.terraform import BACKEND, Terraform, check_version
from scripts.console import CommandError

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CreateBucketRequestTypeDef

FOLDER = Path("terraform/bootstrap")
STATE_KEY = "bootstrap.tfstate"
IMPORT = """
# The bucket is created before Terraform runs, because Terraform keeps its state in it. This lets Terraform manage it.
import {{
  to = aws_s3_bucket.state
  id = "{bucket}"
}}
"""

ASKED = {
    "BRANCH": "branch",
    "BUCKET_NAME": "artifact_bucket",
    "REPOSITORY": "repository",
    "REPOSITORY_IDS": "repository_ids",
}
"""Environment variables and the Terraform variables that they set; a variable that is not set keeps its last value."""

NONE = "none"
REPOSITORY = r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+"
REMOTE = (
    rf"(?:[\w.-]+@github\.com:|(?:https|ssh)://(?:[^/@]+@)?(?:ssh\.)?github\.com(?::\d+)?/)({REPOSITORY}?)(?:\.git)?/?"
)
BRANCH = r"[A-Za-z0-9_][A-Za-z0-9._/-]*"
IDS = r"[1-9]\d*/[1-9]\d*"
ISSUER, AUDIENCE = "token.actions.githubusercontent.com", "sts.amazonaws.com"


def main() -> None:
    """Create what is missing, and show what exists and what to do next."""
    with console.plain_errors(interrupted="interrupted; make bootstrap continues from there"):
        asked = wishes(os.environ)
        check_version()
        cloud = connect()
        outputs = bootstrap(Terraform(cloud, FOLDER), asked)
    if console.wants_json():
        console.print_json(outputs)
    else:
        show(cloud, outputs)


def wishes(env: Mapping[str, str]) -> Mapping[str, str]:
    """Return the user's variables, by Terraform's names. Raises UsageError for an invalid value."""
    asked = {ours: env[name] for name, ours in ASKED.items() if env.get(name)}
    for name, form, example in (
        ("REPOSITORY", rf"{NONE}|{REPOSITORY}", f"owner/name as on GitHub, or {NONE}"),
        ("REPOSITORY_IDS", IDS, "two numbers, owner/repository, such as 1234/5678"),
        ("BRANCH", BRANCH, "the name of one branch, such as main"),
    ):
        if (given := asked.get(ASKED[name])) and not re.fullmatch(form, given):
            raise UsageError(f"{name}={given}: must be {example}")
    return asked


def bootstrap(root: Terraform, asked: Mapping[str, str]) -> Mapping[str, Any]:
    """Apply the requested configuration; return Terraform's outputs."""
    if not root.folder.is_dir():
        raise CommandError(f"{Path.cwd()} has no folder {root.folder}/; run make in the folder of the Makefile")
    prepare(root)
    recorded = root.outputs()
    if not recorded and "repository" not in asked and (origin := suggest_repository(root.cloud)):
        asked = {**asked, "repository": origin}
    chosen = choices(asked, recorded)
    if chosen["repository"]:
        chosen["repository_ids"] = chosen["repository_ids"] or look_up_numbers(chosen["repository"])
        chosen["create_oidc_provider"] = "false" if has_provider_of_others(root) else "true"
    words = [f"-var={name}={value}" for name, value in chosen.items() if value is not None]
    changed: list[str] = []
    with console.ERR.status("Terraform: creating what is missing"):
        root.run("apply", "-json", "-auto-approve", *words, heed=lambda line: tell(line, changed))
    if not changed:
        console.note("nothing to change")
    return root.outputs()


def prepare(root: Terraform) -> None:
    """Create the state bucket if needed, and make Terraform keep this configuration's state in it."""
    bucket = root.cloud.state_bucket
    make_bucket(root.cloud, bucket)
    backend = BACKEND.format(bucket=bucket, key=STATE_KEY, region=root.cloud.region)
    (root.folder / "backend.tf").write_text(backend + IMPORT.format(bucket=bucket))
    with console.ERR.status("Terraform: getting ready"):
        root.run("init", "-json", "-reconfigure")  # the folder may have been used for another account


def make_bucket(cloud: Cloud, name: str) -> None:
    """Create the bucket unless this account has it. Raises AwsError if another account has it."""
    s3 = cloud.session.client("s3", config=CONFIG)
    try:
        with translate_errors(f"the bucket {name}"):
            s3.head_bucket(Bucket=name, ExpectedBucketOwner=cloud.account)
    except DeniedError as error:
        raise refuse_taken_bucket(name) from error
    except MissingError:
        request: CreateBucketRequestTypeDef = {"Bucket": name}
        if cloud.region != "us-east-1":  # AWS rejects this region as a location constraint
            request["CreateBucketConfiguration"] = {"LocationConstraint": cloud.region}  # type: ignore[typeddict-item]
        with translate_errors(f"the bucket {name}"):
            try:
                s3.create_bucket(**request)
            except ClientError as error:
                if error.response["Error"]["Code"] != "BucketAlreadyExists":
                    raise
                raise refuse_taken_bucket(name) from error


def refuse_taken_bucket(name: str) -> AwsError:
    """Return the error for a bucket that exists but cannot be used."""
    return AwsError(
        f"the bucket {name} belongs to another account, or these credentials may not access it. If another account has "
        "it, choose another prefix for all names, and give PROJECT=another-name to every command. Otherwise use an "
        "administrator's credentials (AWS_PROFILE=...)"
    )


def suggest_repository(cloud: Cloud) -> str | None:
    """Return the repository that this folder was cloned from, if the user agrees that it may deploy."""
    if not shutil.which("git"):
        return None
    done = subprocess.run(["git", "remote", "get-url", "origin"], check=False, capture_output=True, text=True)
    found = re.fullmatch(REMOTE, done.stdout.strip())
    if not found:
        return None
    # Without the question, a user who cloned another owner's repository would let that owner deploy into this account.
    origin = found[1]
    question = f"This folder was cloned from {origin} on GitHub. May it deploy into account {cloud.account}?"
    if sys.stdin.isatty() and Confirm.ask(question, console=console.ERR, default=False):
        return origin
    console.note(f"no role was created for GitHub; if {origin} is yours, run: make bootstrap REPOSITORY={origin}")
    return None


def choices(asked: Mapping[str, str], recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return the requested values, or else the last recorded ones, by Terraform's names; None means the default."""
    chosen = {name: asked.get(name, recorded.get(name)) for name in ASKED.values()}
    if chosen["repository"] == NONE:
        chosen["repository"] = None
    if chosen["repository"] is None or chosen["repository"] != recorded.get("repository"):
        chosen["repository_ids"] = asked.get("repository_ids") if chosen["repository"] else None
    return chosen


def look_up_numbers(repository: str) -> str | None:
    """Return GitHub's ids of the owner and the repository; None if the tool `gh` is missing or cannot read them."""
    if shutil.which("gh"):
        words = ["gh", "api", f"repos/{repository}", "--jq", r'"\(.owner.id)/\(.id)"']
        done = subprocess.run(words, check=False, capture_output=True, text=True)
        if re.fullmatch(IDS, done.stdout.strip()):
            return done.stdout.strip()
    console.note(
        "GitHub's ids of the repository are unknown; a repository created, renamed or moved after 15 July 2026 cannot "
        f"log in without them. Look them up: gh api repos/{repository} --jq '\"\\(.owner.id)/\\(.id)\"', then run: "
        "make bootstrap REPOSITORY_IDS=..."
    )
    return None


def has_provider_of_others(root: Terraform) -> bool:
    """Check whether the account has a GitHub OIDC provider that this configuration did not create."""
    ours = any(each["type"] == "aws_iam_openid_connect_provider" for each in root.state())
    return not ours and has_provider(root.cloud)


def has_provider(cloud: Cloud) -> bool:
    """Check whether the account has GitHub's OIDC provider. Raises AwsError if it does not accept AUDIENCE."""
    with translate_errors("the account's OIDC providers"):
        iam = cloud.session.client("iam", config=CONFIG)
        arns = [each["Arn"] for each in iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]]
        provider = next((arn for arn in arns if arn.endswith(f":oidc-provider/{ISSUER}")), None)
        if provider is None:
            return False
        audiences = iam.get_open_id_connect_provider(OpenIDConnectProviderArn=provider)["ClientIDList"]
    if AUDIENCE not in audiences:
        raise AwsError(
            f"the account's OIDC provider for GitHub does not accept the audience {AUDIENCE}; add it: "
            "aws iam add-client-id-to-open-id-connect-provider "
            f"--open-id-connect-provider-arn {provider} --client-id {AUDIENCE}"
        )
    return True


def tell(line: str, changed: list[str]) -> None:
    """Report a change that Terraform has made."""
    event = json.loads(line) if line.startswith("{") else {}
    if event.get("type") == "apply_complete" and event["hook"]["action"] != "read":
        changed.append(event["@message"])
        console.note(event["@message"])


def show(cloud: Cloud, outputs: Mapping[str, Any]) -> None:
    """Print what exists now, and what to do next."""
    repository, branch = outputs.get("repository"), outputs.get("branch")
    there = {"Terraform's state": f"s3://{outputs['state_bucket']}", "Functions' boundary": outputs["boundary_arn"]}
    if repository:
        there |= {"GitHub, plan": outputs["plan_role_arn"], "GitHub, deploy": outputs["deploy_role_arn"]}
    for what, name in there.items():
        say(f"{what:<20} {name}")
    say("\nmake deploy now keeps its state in that bucket, and moves an existing state there from terraform/.")
    if not repository:
        say("To let GitHub deploy as well: make bootstrap REPOSITORY=owner/name")
        return
    say(f"\nTo let GitHub plan every pull request and deploy {branch}, set these variables of {repository}:")
    for name, value in (
        *([] if cloud.project == PROJECT else [("PROJECT", cloud.project)]),
        ("AWS_REGION", cloud.region),
        ("AWS_PLAN_ROLE", outputs["plan_role_arn"]),
        ("AWS_DEPLOY_ROLE", outputs["deploy_role_arn"]),
    ):
        say(f"gh variable set {name} --repo {repository} --body {value}")
    say(
        "\nDeploy once yourself first (make deploy), and again whenever the bucket changes: GitHub's roles may not, so "
        "that none of them can delete the journal."
    )
    say(f"\nWhoever can push to {branch} can deploy: protect it, and require reviewers in the environment production:")
    say(f"https://github.com/{repository}/settings/branches")
    say(f"https://github.com/{repository}/settings/environments")


def say(text: str) -> None:
    """Print a line of the result without wrapping it, so that it can be copied."""
    console.OUT.print(text, markup=False, soft_wrap=True)
