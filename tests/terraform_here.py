"""A guard for tests that need Terraform: without it, they are skipped, but in CI they fail."""

import os
import shutil

import pytest

MISSING = "left out: terraform is not on the PATH (https://developer.hashicorp.com/terraform/install)"


def require() -> None:
    """Skip the calling test if Terraform is not on the PATH, or fail it if CI=true."""
    if shutil.which("terraform"):
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"{MISSING}; CI must run these tests, so install it in the CI image")
    pytest.skip(MISSING)
