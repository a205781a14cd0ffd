"""What the commands of a developer hand over to the programs that they start."""

import os
import sys

import pytest

from scripts.checks import development


@pytest.mark.parametrize(("given", "handed_over"), [("1", "1"), ("yes", "1"), ("0", ""), ("", "")])
def test_lock_keeps_versions_only_if_it_is_told_to(
    monkeypatch: pytest.MonkeyPatch, given: str, handed_over: str
) -> None:
    monkeypatch.setenv("KEEP", given)
    monkeypatch.setattr(development, "become", sys.exit)
    with pytest.raises(SystemExit):
        development.lock()
    assert os.environ["KEEP"] == handed_over
