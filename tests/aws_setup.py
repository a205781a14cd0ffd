"""Helpers for tests with the stand-in for AWS: zip files of code, and denied actions."""

import io
import zipfile
from collections.abc import Mapping
from textwrap import dedent
from typing import Any

import pytest
from moto.ssm.exceptions import AccessDeniedException
from moto.ssm.responses import SimpleSystemManagerResponse


def zip_files(files: Mapping[str, str]) -> bytes:
    """Zip texts, given by path. The same texts give the same bytes, and every entry is world-readable."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, text in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, dedent(text))
    return data.getvalue()


def zip_code(code: str) -> bytes:
    """Zip a handler under the module name that the function expects."""
    return zip_files({"lambda_function.py": code})


def deny(monkeypatch: pytest.MonkeyPatch, action: str, *names: str | None, quoting: str = "not this one") -> None:
    """Make AWS deny an action on these parameters, as a policy would; None stands for requests without a Name."""
    allowed = getattr(SimpleSystemManagerResponse, action)

    def answer(response: Any) -> Any:
        if {response._get_param("Name"), *(response._get_param("Names") or [])} & set(names):
            raise AccessDeniedException(quoting)
        return allowed(response)

    monkeypatch.setattr(SimpleSystemManagerResponse, action, answer)
