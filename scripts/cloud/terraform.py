"""Run Terraform for the commands, with the right state, and report its errors in plain words."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

from scripts import console
from scripts.cloud.aws import CONFIG, Cloud, MissingError, connect, translate_errors
from scripts.console import CommandError
from trader.settings import STRATEGY_NAME, STRATEGY_NAME_IN_WORDS

FOLDER = Path("terraform")
NEEDED, BELOW = (1, 11), (2, 0)
"""The supported versions of Terraform: the first or newer, but below the second."""

STATE_KEY = "prophet-trader.tfstate"
GENERATED = "# Written by the make targets, for the account and region they last worked in.\n"
BACKEND = (
    GENERATED
    + """terraform {{
  backend "s3" {{
    bucket       = "{bucket}"
    key          = "{key}"
    region       = "{region}"
    use_lockfile = true
  }}
}}
"""
)
ASKED = ("architecture", "function_zip", "layer_zip", "project", "python")
"""Variables of the root that the commands need, in addition to the names of its strategies."""

EXISTS = r"ResourceAlreadyExists|EntityAlreadyExists|ParameterAlreadyExists|Function already exist"
"""The errors of AWS about a resource that Terraform creates but that is there."""

LOCKED = r"Error acquiring the state lock.*?Lock Info:.*?ID:\s*(\S+).*?Who:\s*(\S+).*?Created:\s*(\S+ [\d:]+)"

HINTS = {
    r"BucketAlreadyExists|BucketAlreadyOwnedByYou": (
        "the bucket's name is taken, and bucket names are unique worldwide: choose another with "
        'bucket_name = "..." in terraform/terraform.tfvars'
    ),
    r"No valid credential sources|ExpiredToken|InvalidClientTokenId|failed to refresh cached credentials": (
        "Terraform has no valid AWS credentials; log in (aws configure, or aws sso login), or set AWS_PROFILE"
    ),
    r"AccessDenied|not authorized to perform|UnauthorizedOperation": (
        "these credentials do not allow that; use others (AWS_PROFILE), or request the permission named above"
    ),
    r"UnreservedConcurrentExecution": (
        "the account has too few concurrent executions to reserve any (a new account has 10): leave out "
        "reserved_concurrency, or ask AWS for a higher quota (Lambda, concurrent executions)"
    ),
    r"Saved plan is stale": "something was applied after the plan was made; make a new plan: make plan OUT=...",
    r"Failed to query available provider packages|Failed to install provider": (
        "the provider could not be fetched: check the network connection (TF_CLI_CONFIG_FILE can name a mirror)"
    ),
    EXISTS: (
        "this exists in AWS, but not in Terraform's state, so repeating the command alone will not help: make plan "
        "names each such resource, and the command that puts it into the state or deletes it"
    ),
    r"BucketNotEmpty": "something was written while the bucket was being emptied; run make destroy again",
}
"""Advice on known errors, by a pattern of Terraform's or AWS's message."""


class TerraformError(CommandError):
    """Terraform failed; the message has Terraform's own words and, for known errors, what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variables:
    """The values of the root's variables, wherever they are set: terraform.tfvars, TF_VAR_..., defaults."""

    strategies: Sequence[str]
    parameters: Mapping[str, Mapping[str, str]]  # of each strategy, the SSM parameters that are not the usual ones
    architecture: str
    python: str
    function_zip: str | None
    layer_zip: str | None


@dataclass(frozen=True)
class Terraform:
    """Terraform's root module in `folder`, for one account and region."""

    cloud: Cloud
    folder: Path = FOLDER
    variables_set: Mapping[str, str] = field(default_factory=dict)
    """Root variables that this command sets; terraform.tfvars takes precedence."""

    @cached_property
    def has_state_bucket(self) -> bool:
        """True if `make bootstrap` has created the state bucket. Raises AwsError if this cannot be determined."""
        return has_bucket(self.cloud, self.cloud.state_bucket)

    @cached_property
    def environment(self) -> Mapping[str, str]:
        """The environment for Terraform: this process's, plus variables that make it behave the same everywhere."""
        env = {**os.environ, "AWS_REGION": self.cloud.region, "TF_IN_AUTOMATION": "1", "TF_INPUT": "0"}
        env |= {f"TF_VAR_{name}": value for name, value in self.variables_set.items()}
        env["TF_VAR_project"] = self.cloud.project
        if self.has_state_bucket:
            partition = self.cloud.session.get_partition_for_region(self.cloud.region)
            boundary = f"arn:{partition}:iam::{self.cloud.account}:policy/{self.cloud.project}-boundary"
            env.setdefault("TF_VAR_permissions_boundary", boundary)
        return env

    def init(self) -> None:
        """Initialize the folder, with its state in the right place. Raises TerraformError or AwsError."""
        check_version()
        self.check_folder()
        backend = self.folder / "backend.tf"
        if backend.is_file() and not self._is_ours(backend):
            self._init()  # the user's own backend
            return
        local = self._local_state()
        (self.folder / ".terraform" / "terraform.tfstate").unlink(missing_ok=True)  # records the last backend
        if not self.has_state_bucket:
            backend.unlink(missing_ok=True)
            self._init()
            return
        bucket = self.cloud.state_bucket
        backend.write_text(BACKEND.format(bucket=bucket, key=STATE_KEY, region=self.cloud.region))
        if local is None:
            self._init()
        else:
            self._move(local)
            console.note(f"Terraform's state is now in s3://{bucket}/{STATE_KEY}; {local} is kept as a backup")

    def _is_ours(self, backend: Path) -> bool:
        """Tell whether the commands may rewrite a backend: they wrote it, or it is a copy of the example next to it."""
        text, example = backend.read_text(), self.folder / "backend.tf.example"
        return text.startswith(GENERATED) or (example.is_file() and text == example.read_text())

    def check_folder(self) -> None:
        """Raise CommandError if the folder has no root."""
        if not (self.folder / "variables.tf").is_file():
            raise CommandError(
                f"{self.folder}/variables.tf does not exist in {Path.cwd()}; run make in the folder of the Makefile"
            )

    def _init(self) -> None:
        with console.ERR.status("Terraform: initializing"):
            self.run("init", "-json")

    def _local_state(self) -> Path | None:
        """Return the folder's state file, if any. Raises CommandError if another account, region or project owns it."""
        file = self.folder / "terraform.tfstate"
        moving = file.with_suffix(".tfstate.moving")
        if moving.is_file() and not file.is_file():  # left behind by a killed move
            moving.rename(file)
        if not file.is_file():
            return None
        text = file.read_text()
        arns = re.findall(r'"arn:[\w-]+:([a-z0-9]+):([a-z0-9-]+):(\d{12}):([^"]*)', text)
        places = {(region, account) for _, region, account, _ in arns}
        others = set() if (self.cloud.region, self.cloud.account) in places else places
        topics = {what for service, *_, what in arns if service == "sns" and what.endswith("-alarms")}
        if others or topics - {f"{self.cloud.project}-alarms"}:
            region, account = next(iter(others), (self.cloud.region, self.cloud.account))
            project = next(iter(topics), "").removesuffix("-alarms") or self.cloud.project
            raise CommandError(
                f"{file} is the state of {project} in account {account}, region {region}, not of {self.cloud.project} "
                f"in account {self.cloud.account}, region {self.cloud.region}. To work on the former, set "
                "PROJECT, AWS_PROFILE and AWS_REGION. To work on both from this folder, first set them and run make "
                "bootstrap and make plan, which move the former's state into a bucket"
            )
        return file

    def _move(self, local: Path) -> None:
        """Move the folder's state into the bucket. Raises TerraformError if the bucket already has another."""
        moving = local.with_suffix(".tfstate.moving")
        local.rename(moving)
        try:
            self._init()
            if json.loads(moving.read_text()).get("resources"):
                self._push(local, moving)
        except BaseException:
            moving.rename(local)
            raise
        moving.rename(local.with_suffix(".tfstate.migrated-backup"))

    def _push(self, local: Path, moving: Path) -> None:
        try:
            self.run("state", "push", "-no-color", str(moving.resolve()))
        except TerraformError as error:
            if "lineage" not in str(error):
                raise
            raise TerraformError(
                f"s3://{self.cloud.state_bucket}/{STATE_KEY} and {local} both hold a state, and the bucket's is the "
                f"shared one; if {local.name} is out of date, move it away and run this again"
            ) from error

    def variables(self) -> Variables:
        """Return the values of the root's variables. Raises CommandError if its project differs from PROJECT."""
        self.check_folder()
        parts = ", ".join(f"{name} = var.{name}" for name in ASKED)
        # Terraform's console does not fill in the defaults of optional attributes.
        parameters = "{for name, its in var.strategies : name => try(merge({}, its.parameters), {})}"
        told = self.evaluate(f"{{{parts}, strategies = keys(var.strategies), parameters = {parameters}}}")
        project = told.pop("project")
        if project != self.cloud.project:
            raise CommandError(
                f"Terraform's variable project is {project}, but PROJECT is {self.cloud.project}: remove project from "
                f"terraform.tfvars, and give PROJECT={project} to all commands"
            )
        if odd := [name for name in told["strategies"] if not re.fullmatch(STRATEGY_NAME, name)]:
            raise CommandError(
                f"Terraform's variable strategies has invalid names: {', '.join(odd)}; a name must be "
                f"{STRATEGY_NAME_IN_WORDS}"
            )
        return Variables(**told)

    def evaluate(self, expression: str) -> dict[str, Any]:
        """Evaluate an expression on the root's variables.

        Terraform gets only variables.tf and the files that set variables, so it needs no provider, state or lock.
        """
        printed: list[str] = []
        with TemporaryDirectory() as name:
            for pattern in ("variables.tf", "*.tfvars", "*.tfvars.json"):
                for file in self.folder.glob(pattern):
                    (Path(name) / file.name).symlink_to(file.resolve())
            question = f"jsonencode({expression})\n"
            code, said = self.start("console", "-no-color", folder=Path(name), text=question, heed=printed.append)
        # Terraform reports undeclared references and invalid values as errors, but still answers.
        answers = [line for line in printed if line.startswith('"')]
        if code != 0 or not answers:
            blocks = re.split(r"^(?=Error: |Warning: |!!!)", said, flags=re.MULTILINE)
            meant = [each for each in blocks if re.match(r"Error: (?!Reference to undeclared)", each)]
            raise explain(meant or [said])
        value: dict[str, Any] = json.loads(json.loads(answers[-1]))
        return value

    def plan(self, out: Path, *, lock: bool = True, destroy: bool = False, replace: Sequence[str] = ()) -> bool:
        """Write a plan that also replaces the resources in `replace`; return whether it changes anything."""
        words = ["plan", "-json", "-detailed-exitcode", f"-out={out.resolve()}", f"-lock={str(lock).lower()}"]
        with console.ERR.status("Terraform: planning"):
            words += [f"-replace={address}" for address in replace]
            return self.run(*words, *(["-destroy"] if destroy else []), fine=(0, 2)) == 2

    def show(self, plan: Path) -> dict[str, Any]:
        """Return a plan as Terraform's JSON."""
        if not plan.is_file():
            raise CommandError(f"the plan {plan} does not exist; make one with: make plan OUT={plan}")
        shown: dict[str, Any] = self.json("show", "-json", str(plan.resolve()))
        return shown

    def text(self, plan: Path) -> str:
        """Return a plan as Terraform's text, colored for a terminal."""
        printed: list[str] = []
        color = [] if console.OUT.is_terminal else ["-no-color"]
        self.run("show", *color, str(plan.resolve()), heed=printed.append)
        return "".join(printed)

    def apply(self, plan: Path, changes: int) -> None:
        """Apply a plan with this many changes, and report each. Changes made before a TerraformError stay."""
        done = 0

        def heed(line: str) -> None:
            nonlocal done
            event = json.loads(line) if line.startswith("{") else {}
            if event.get("type") == "apply_complete":
                done += 1
                progress("Terraform", done, max(changes, done))
                if not console.ERR.is_terminal:
                    console.ERR.print(event["@message"], style="dim", markup=False, soft_wrap=True)

        with console.progress() as progress:
            progress("Terraform", 0, changes)
            try:
                self.run("apply", "-json", str(plan.resolve()), heed=heed)
            except TerraformError as error:
                if not done:
                    raise
                remark = f"{done} of {changes} changes were made before the error and stay"
                if not re.search(EXISTS, str(error)):
                    remark += "; the same command continues from there"
                raise TerraformError(f"{error}\n{remark}") from error

    def outputs(self) -> dict[str, Any]:
        """Return the root's outputs by name, as last applied; empty if nothing was applied."""
        return {name: output["value"] for name, output in self.json("output", "-json").items()}

    def state(self) -> Sequence[Mapping[str, Any]]:
        """Return the resources in the state."""
        pulled: list[str] = []
        self.run("state", "pull", heed=pulled.append)
        text = "".join(pulled).strip()
        return json.loads(text)["resources"] if text else []

    def json(self, *words: str) -> Any:  # noqa: ANN401 the caller knows the type of what Terraform prints
        """Run Terraform and return the JSON that it prints."""
        printed: list[str] = []
        self.run(*words, heed=printed.append)
        return json.loads("".join(printed))

    def run(self, *words: str, heed: Callable[[str], None] = lambda _: None, fine: Sequence[int] = (0,)) -> int:
        """Run Terraform, and pass each line to `heed`. Return its exit code; raise TerraformError if not in `fine`."""
        errors: list[str] = []

        def listen(line: str) -> None:
            if line.startswith('{"@level":"error"'):
                errors.append(essence(json.loads(line)))
            else:
                heed(line)

        code, said = self.start(*words, heed=listen)
        if code not in fine:
            raise explain(errors or [said])
        return code

    def start(
        self, *words: str, heed: Callable[[str], None], folder: Path | None = None, text: str = ""
    ) -> tuple[int, str]:
        """Run Terraform to its end, even after an interruption; return its exit code and stderr.

        It has its own process group, so that it gets each Ctrl-C once, from this method, and not from the terminal as
        well. After the first it completes what it has begun and writes its state; a second stops it at once.
        """
        with (
            TemporaryFile("w+") as said,
            ends_are_interruptions(),
            subprocess.Popen(
                ["terraform", *words],
                cwd=folder or self.folder,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                process_group=0,
            ) as process,
        ):
            assert process.stdin, "requested above"
            assert process.stdout, "requested above"
            try:
                process.stdin.write(text)
                process.stdin.close()
                for line in process.stdout:
                    heed(line)
                code = process.wait()
            except KeyboardInterrupt:
                signal.signal(signal.SIGINT, lambda *_: process.send_signal(signal.SIGINT))
                process.send_signal(signal.SIGINT)
                console.note(
                    "Terraform is completing what it has begun; a second Ctrl-C stops it and may lose its state"
                )
                for _ in process.stdout:
                    pass
                process.wait()
                raise
            said.seek(0)
            return code, said.read()


def strategies(cloud: Cloud | None = None) -> Sequence[str]:
    """Return the names in Terraform's variable `strategies`, deployed or not."""
    check_version()
    return Terraform(cloud or connect()).variables().strategies


def has_bucket(cloud: Cloud, name: str) -> bool:
    """Check whether a bucket exists. Raises DeniedError if it exists but these credentials may not access it."""
    try:
        with translate_errors(f"the bucket {name}"):
            s3 = cloud.session.client("s3", config=CONFIG)
            s3.head_bucket(Bucket=name, ExpectedBucketOwner=cloud.account)  # another account may have the name
    except MissingError:
        return False
    return True


def check_version() -> None:
    """Raise CommandError if Terraform is missing or its version is not supported."""
    wanted = ".".join(map(str, NEEDED))
    if not shutil.which("terraform"):
        raise CommandError(
            f"terraform is not installed: install version {wanted} or newer from https://developer.hashicorp.com/terraform/install"
        )
    done = subprocess.run(["terraform", "version", "-json"], check=False, capture_output=True, text=True)
    try:
        version = json.loads(done.stdout)["terraform_version"]
    except (ValueError, KeyError):
        raise CommandError(
            f"terraform does not report its version: {done.stderr.strip() or done.stdout.strip()}"
        ) from None
    if not NEEDED <= tuple(map(int, re.findall(r"\d+", version)[:2])) < BELOW:
        raise CommandError(f"terraform {version} is not supported: install {wanted} or newer, below {BELOW[0]}")


def essence(event: Mapping[str, Any]) -> str:
    """Return an error in Terraform's own words, without its formatting for a terminal."""
    told = event.get("diagnostic") or {"summary": event["@message"]}
    summary, detail = told["summary"].strip(), told.get("detail", "")
    detail = detail.split("\n\nThis was checked by the validation rule")[0].strip()
    if summary == "Invalid value for variable" and detail:
        return str(detail)
    if summary in {"Resource precondition failed", "Resource postcondition failed"}:
        return str(detail)
    where = told.get("address") or (told.get("range") or {}).get("filename", "")
    return ": ".join(part for part in (where, summary, detail) if part)


def explain(errors: Sequence[str]) -> TerraformError:
    """Combine Terraform's errors, without duplicates, into one, with advice on the known ones."""
    told = "\n".join(dict.fromkeys(error.strip().removeprefix("Error: ") for error in errors))
    if lock := re.search(LOCKED, told, re.DOTALL):
        held, who, since = lock.groups()
        return TerraformError(
            f"Terraform's state is locked: {who} has been working on it since {since} UTC. Wait until that ends. If it "
            f"was killed and nothing is running, unlock the state: (cd terraform && terraform force-unlock {held})"
        )
    hints = [hint for known, hint in HINTS.items() if re.search(known, told)]
    return TerraformError("\n".join([f"Terraform: {told or 'it failed without a message'}", *hints]))


@contextmanager
def ends_are_interruptions() -> Iterator[None]:
    """Treat SIGTERM and SIGHUP (CI, a closed terminal) as an interruption, so that Terraform can finish its step."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(each, signal.default_int_handler) for each in signals]
    try:
        yield
    finally:
        for each, handler in zip(signals, before, strict=True):
            signal.signal(each, handler)
