"""Terraform on this machine: a guard for the tests that need it, and a running provider that saves them its starts."""

import atexit
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from scripts import ROOT

MISSING = "left out: terraform is not on the PATH (https://developer.hashicorp.com/terraform/install)"
ATTACH = "TF_REATTACH_PROVIDERS"
QUICK = {"GOGC": "400"}
"""Go's own setting to collect garbage less often, which saves Terraform and its provider a third of their work."""

NO_ACCOUNT = {"AWS_REGION": "eu-central-1"}
"""The variables for configurations whose resources are mocked."""


def require() -> None:
    """Skip the calling test if Terraform is not on the PATH, or fail it if CI=true."""
    if shutil.which("terraform"):
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"{MISSING}; CI must run these tests, so install it in the CI image")
    pytest.skip(MISSING)


def attach_provider(account: Mapping[str, str] = NO_ACCOUNT, folder: Path = ROOT) -> dict[str, str]:
    """Return variables that make Terraform use a provider that is already running, for an AWS account.

    Terraform starts its provider several times in a command, and each start takes a second or two of the processor.
    The provider keeps its last configuration, so no two commands of one process may run at the same time. It knows only
    the resources that terraform/ uses. `folder` is the root module's, from which the provider finds files.
    """
    return {**QUICK, ATTACH: _run_provider(tuple(sorted(account.items())), folder)}


@cache
def _run_provider(account: tuple[tuple[str, str], ...], cwd: Path) -> str:
    """Start the provider that the root module requires, and return how Terraform reaches it, as it says itself."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | dict(account) | QUICK
    provider = subprocess.Popen(
        [sys.executable, "-I", str(ROOT / "tests" / "terraform_provider.py"), _program(), *sorted(_kinds())],
        cwd=cwd,
        env=env,
        stdin=subprocess.PIPE,  # it ends with this process, and the provider with it
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    atexit.register(provider.communicate)
    assert provider.stdout is not None, "it is a pipe"
    name, _, value = provider.stdout.readline().strip().partition("=")
    assert name == ATTACH, "Terraform's provider has not said how it is reached"
    return value.strip("'")


@cache
def _program() -> Path:
    """Return the provider's program. Terraform takes a second to find it, as it computes its checksum."""
    folder = TemporaryDirectory(prefix="provider-")
    atexit.register(folder.cleanup)
    for name in ("versions.tf", ".terraform.lock.hcl"):  # the locked version, not the newest that is allowed
        shutil.copy(ROOT / "terraform" / name, folder.name)
    words = ["terraform", "init", "-backend=false", "-input=false", "-no-color"]
    done = subprocess.run(words, cwd=folder.name, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = Path(folder.name, ".terraform", "providers").rglob("terraform-provider-aws_*", recurse_symlinks=True)
    return found


def _kinds() -> set[str]:
    """Return the kinds of resources and data sources that Terraform's files here use."""
    texts = [path.read_text() for path in (ROOT / "terraform").rglob("*.tf") if ".terraform" not in path.parts]
    return {kind for text in texts for kind in re.findall(r'^\s*(?:resource|data) "(aws_\w+)"', text, re.MULTILINE)}
