"""Tests that need Terraform: left out, in so many words, where it is not on the PATH; in CI that is a failure."""

import os
import shutil

import pytest

MISSING = "left out: there is no terraform on the PATH (https://developer.hashicorp.com/terraform/install)"


def require() -> None:
    """Go on if Terraform is here; otherwise skip what asks for it, or fail it with CI=true."""
    if shutil.which("terraform"):
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"{MISSING}: CI must run the tests with it")
    pytest.skip(MISSING)
