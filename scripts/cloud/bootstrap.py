"""`make bootstrap`: once per account and region, what Terraform and GitHub need before anything is deployed.

A bucket for Terraform's state, the policy that bounds what functions may do, and for a GitHub repository the two roles
that it plans and deploys with. It may be run again at any time, from any laptop: its own state is in that bucket, too.
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
from scripts.cloud.aws import CONFIG, PROJECT, AwsError, Cloud, DeniedError, MissingError, connect, translate_errors
from scripts.cloud.terraform import BACKEND, Terraform, check_version
from scripts.console import CommandError

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CreateBucketRequestTypeDef

FOLDER = Path("terraform/bootstrap")
STATE_KEY = "bootstrap.tfstate"
IMPORT = """
# The bucket was made before Terraform, which keeps its state in it from the first moment; this makes it Terraform's.
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
"""Variables of the shell, and Terraform's; what is not said stays as it was."""

NONE = "none"
REPOSITORY = r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+"
REMOTE = (
    rf"(?:[\w.-]+@github\.com:|(?:https|ssh)://(?:[^/@]+@)?(?:ssh\.)?github\.com(?::\d+)?/)({REPOSITORY}?)(?:\.git)?/?"
)
BRANCH = r"[A-Za-z0-9_][A-Za-z0-9._/-]*"
IDS = r"[1-9]\d*/[1-9]\d*"
ISSUER, AUDIENCE = "token.actions.githubusercontent.com", "sts.amazonaws.com"


def main() -> None:
    """Make what is not there, and show what there is and what comes next."""
    parser = console.parser(
        "make bootstrap",
        __doc__,
        epilog=f"Variables: REPOSITORY=owner/name ({NONE} takes its roles away), BRANCH=main, BUCKET_NAME= (where the "
        "root's bucket_name is set), PROJECT=. What is not said stays as it was.",
    )
    arguments = parser.parse_args()
    with console.plain_errors(interrupted="interrupted; make bootstrap goes on from there"):
        asked = wishes(os.environ)
        check_version()
        cloud = connect()
        outputs = bootstrap(Terraform(cloud, FOLDER), asked)
    if arguments.json:
        console.print_json(outputs)
    else:
        show(cloud, outputs)


def wishes(env: Mapping[str, str]) -> Mapping[str, str]:
    """What the person has said, under Terraform's names. Raises CommandError for what cannot be meant."""
    asked = {ours: env[name] for name, ours in ASKED.items() if env.get(name)}
    for name, form, example in (
        ("REPOSITORY", rf"{NONE}|{REPOSITORY}", f"owner/name as on GitHub, or {NONE}"),
        ("REPOSITORY_IDS", IDS, "two numbers, owner/repository, such as 1234/5678"),
        ("BRANCH", BRANCH, "the name of one branch, such as main"),
    ):
        if (given := asked.get(ASKED[name])) and not re.fullmatch(form, given):
            raise CommandError(f"{name}={given}: must be {example}")
    return asked


def bootstrap(root: Terraform, asked: Mapping[str, str]) -> Mapping[str, Any]:
    """Bring the account to what is asked; gives Terraform's outputs."""
    if not root.folder.is_dir():
        raise CommandError(f"there is no folder {root.folder}/ here; run make where the Makefile is")
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
    with console.ERR.status("Terraform: making what is not there"):
        root.run("apply", "-json", "-auto-approve", *words, heed=lambda line: tell(line, changed))
    if not changed:
        console.note("nothing had to be changed")
    return root.outputs()


def prepare(root: Terraform) -> None:
    """See to it that there is a bucket, and that Terraform keeps this configuration's state in it."""
    bucket = root.cloud.state_bucket
    make_bucket(root.cloud, bucket)
    backend = BACKEND.format(bucket=bucket, key=STATE_KEY, region=root.cloud.region)
    (root.folder / "backend.tf").write_text(backend + IMPORT.format(bucket=bucket))
    with console.ERR.status("Terraform: getting ready"):
        root.run("init", "-json", "-reconfigure")  # the folder may have been used for another account


def make_bucket(cloud: Cloud, name: str) -> None:
    """Create the bucket, unless this account has it. Raises AwsError if somebody else has."""
    s3 = cloud.session.client("s3", config=CONFIG)
    try:
        with translate_errors(f"the bucket {name}"):
            s3.head_bucket(Bucket=name, ExpectedBucketOwner=cloud.account)
    except DeniedError as error:
        raise refuse_taken_bucket(name) from error
    except MissingError:
        request: CreateBucketRequestTypeDef = {"Bucket": name}
        if cloud.region != "us-east-1":  # which must not be named
            request["CreateBucketConfiguration"] = {"LocationConstraint": cloud.region}  # type: ignore[typeddict-item]
        with translate_errors(f"the bucket {name}"):
            try:
                s3.create_bucket(**request)
            except ClientError as error:
                if error.response["Error"]["Code"] != "BucketAlreadyExists":
                    raise
                raise refuse_taken_bucket(name) from error


def refuse_taken_bucket(name: str) -> AwsError:
    """What to say of a bucket that is there and not to be had."""
    return AwsError(
        f"the bucket {name} is not this account's, or these credentials may not look at it. If another account has it, "
        "names must begin otherwise: PROJECT=another-name for all commands. Else use credentials of an administrator "
        "(AWS_PROFILE=...)"
    )


def suggest_repository(cloud: Cloud) -> str | None:
    """The repository that this folder was cloned from, if the person says that it is theirs."""
    if not shutil.which("git"):
        return None
    done = subprocess.run(["git", "remote", "get-url", "origin"], check=False, capture_output=True, text=True)
    found = re.fullmatch(REMOTE, done.stdout.strip())
    if not found:
        return None
    # Whoever cloned somebody else's repository would otherwise let that person deploy into this account.
    origin = found[1]
    question = f"This folder was cloned from {origin} on GitHub. May that deploy into account {cloud.account}?"
    if sys.stdin.isatty() and Confirm.ask(question, console=console.ERR, default=False):
        return origin
    console.note(f"no role is made for GitHub; if {origin} is yours: make bootstrap REPOSITORY={origin}")
    return None


def choices(asked: Mapping[str, str], recorded: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked, else what was recorded the last time, under Terraform's names; None for its default."""
    chosen = {name: asked.get(name, recorded.get(name)) for name in ASKED.values()}
    if chosen["repository"] == NONE:
        chosen["repository"] = None
    if chosen["repository"] is None or chosen["repository"] != recorded.get("repository"):
        chosen["repository_ids"] = asked.get("repository_ids") if chosen["repository"] else None
    return chosen


def look_up_numbers(repository: str) -> str | None:
    """GitHub's numbers of owner and repository, if its command line tool is here and may know."""
    if shutil.which("gh"):
        words = ["gh", "api", f"repos/{repository}", "--jq", r'"\(.owner.id)/\(.id)"']
        done = subprocess.run(words, check=False, capture_output=True, text=True)
        if re.fullmatch(IDS, done.stdout.strip()):
            return done.stdout.strip()
    console.note(
        "GitHub's numbers of the repository are not known; one made, renamed or moved after 15 July 2026 cannot log in "
        f"without. Ask for them: gh api repos/{repository} --jq '\"\\(.owner.id)/\\(.id)\"', then: "
        "make bootstrap REPOSITORY_IDS=..."
    )
    return None


def has_provider_of_others(root: Terraform) -> bool:
    """Whether the account has GitHub's OIDC provider, and by other hands than ours."""
    ours = any(each["type"] == "aws_iam_openid_connect_provider" for each in root.state())
    return not ours and has_provider(root.cloud)


def has_provider(cloud: Cloud) -> bool:
    """Whether the account has GitHub's OIDC provider. Raises AwsError if it has one that is not meant for AWS."""
    with translate_errors("the account's OIDC providers"):
        iam = cloud.session.client("iam", config=CONFIG)
        arns = [each["Arn"] for each in iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]]
        provider = next((arn for arn in arns if arn.endswith(f":oidc-provider/{ISSUER}")), None)
        if provider is None:
            return False
        audiences = iam.get_open_id_connect_provider(OpenIDConnectProviderArn=provider)["ClientIDList"]
    if AUDIENCE not in audiences:
        raise AwsError(
            f"the account's OIDC provider for GitHub is not for {AUDIENCE}; let it be: "
            "aws iam add-client-id-to-open-id-connect-provider "
            f"--open-id-connect-provider-arn {provider} --client-id {AUDIENCE}"
        )
    return True


def tell(line: str, changed: list[str]) -> None:
    """Tell of a change that Terraform has made."""
    event = json.loads(line) if line.startswith("{") else {}
    if event.get("type") == "apply_complete" and event["hook"]["action"] != "read":
        changed.append(event["@message"])
        console.note(event["@message"])


def show(cloud: Cloud, outputs: Mapping[str, Any]) -> None:
    """What there is now, and what comes next."""
    repository, branch = outputs.get("repository"), outputs.get("branch")
    there = {"Terraform's state": f"s3://{outputs['state_bucket']}", "Functions' boundary": outputs["boundary_arn"]}
    if repository:
        there |= {"GitHub, plan": outputs["plan_role_arn"], "GitHub, deploy": outputs["deploy_role_arn"]}
    for what, name in there.items():
        say(f"{what:<20} {name}")
    say("\nmake deploy keeps its state in that bucket from now on; one that is in terraform/ it moves there by itself.")
    if not repository:
        say("To let GitHub deploy, too: make bootstrap REPOSITORY=owner/name")
        return
    say(f"\nFor GitHub to plan every pull request and to deploy {branch}, tell {repository}:")
    for name, value in (
        *([] if cloud.project == PROJECT else [("PROJECT", cloud.project)]),
        ("AWS_REGION", cloud.region),
        ("AWS_PLAN_ROLE", outputs["plan_role_arn"]),
        ("AWS_DEPLOY_ROLE", outputs["deploy_role_arn"]),
    ):
        say(f"gh variable set {name} --repo {repository} --body {value}")
    say(f"\nWhoever can push to {branch} can deploy: protect it, and require reviewers in the environment production:")
    say(f"https://github.com/{repository}/settings/branches")
    say(f"https://github.com/{repository}/settings/environments")


def say(text: str) -> None:
    """A line of the result, not broken, so that it can be copied."""
    console.OUT.print(text, markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
