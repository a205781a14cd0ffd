"""`make audit` finds faults in locked files, and never counts an unchecked part as passed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from scripts import ROOT, console
from scripts.checks import audit
from scripts.checks.audit import LOCKED, Result

SHA = "    --hash=sha256:" + "0" * 64
PIN = f"requests==2.34.2 \\\n{SHA}\n"
MARKED = f"colorama==0.4.6 ; sys_platform == 'win32' \\\n{SHA} \\\n{SHA}\n"


# --- the locked files ---


@pytest.mark.parametrize("result", [*audit.offline()], ids=lambda result: f"{result.of}: {result.check}")
def test_the_locked_files_have_no_findings(result: Result) -> None:
    assert list(result.findings) == []


def test_pinned_packages_with_hashes_are_no_finding() -> None:
    assert list(audit.find_malformed(PIN + MARKED)) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"requests>=2.34 \\\n{SHA}", "line 3: 'requests>=2.34 \\\\' is not a package pinned to one version"),
        (f"requests==2.* \\\n{SHA}", "line 3: 'requests==2.* \\\\' is not a package pinned to one version"),
        (f"requests \\\n{SHA}", "line 3: 'requests \\\\' is not a package pinned to one version"),
        ("requests==2.34.2", "line 3: requests has no hash"),
        (
            "requests==2.34.2 \\\n    --hash=md5:00000000000000000000000000000000",
            "is not a package pinned to one version",
        ),
        ("requests @ git+https://example.com/requests.git@main", "is not a package pinned to one version"),
        ("requests @ https://example.com/requests.whl", "is not a package pinned to one version"),
        ("git+https://example.com/requests.git", "is not a package pinned to one version"),
        ("-e .", "is not a package pinned to one version"),
        ("-r other.txt", "is not a package pinned to one version"),
        *(
            (f"--{option} elsewhere", "is not a package pinned to one version")
            for option in ("index-url", "extra-index-url", "find-links", "trusted-host")
        ),
        ("# from https://example.com", "is not a package pinned to one version"),
    ],
)
def test_any_other_line_is_a_finding(line: str, said: str) -> None:
    assert said in "\n".join(audit.find_malformed(f"{PIN}{line}\n{MARKED}"))


def test_the_last_package_needs_a_hash_too() -> None:
    assert list(audit.find_malformed(f"{PIN}urllib3==2.8.0\n")) == ["line 3: urllib3 has no hash"]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("requests>=3", "requests>=3 is required, but 2.34.2 is locked; run make lock"),
        ("flask", "flask is not locked; run make lock"),
        ("requests @ https://example.com/requests.whl", "comes from a URL, not from the package index"),
    ],
)
def test_a_requirement_that_is_not_locked_is_a_finding(wanted: str, said: str) -> None:
    assert said in "\n".join(audit.unmet([wanted], audit.versions(PIN)))


@pytest.mark.parametrize("wanted", ["requests>=2.32", "Requests[socks]>=2.32", "requests"])
def test_a_locked_requirement_is_no_finding(wanted: str) -> None:
    assert list(audit.unmet([wanted], audit.versions(PIN))) == []


def test_a_package_not_tested_in_its_shipped_version_is_found() -> None:
    files = {"layer.txt": {"requests": "2.34.1", "numpy": "2"}, "dev.txt": {"requests": "2.34.2", "numpy": "2"}}
    assert list(audit.differing(files)) == ["requests is 2.34.1 in layer.txt but 2.34.2 in dev.txt"]


# --- the vulnerability service ---


@pytest.fixture
def service(tmp_path: Path) -> "Service":
    return Service(tmp_path)


class Service:
    """A program in place of pip-audit, with set answers for the control and for everything else."""

    def __init__(self, folder: Path) -> None:
        self.program = folder / "pip-audit"
        self._folder = folder

    def answers(self, control: object, rest: object = ()) -> list[Result]:
        for name, dependencies in {"control.txt": control, "rest.txt": rest}.items():
            text = dependencies if isinstance(dependencies, str) else json.dumps({"dependencies": dependencies})
            (self._folder / name).write_text(text)
        which = (
            f"case \"$*\" in *control.txt*) cat '{self._folder}/control.txt';; *) cat '{self._folder}/rest.txt';; esac"
        )
        self.program.write_text(f"#!/bin/sh\n{which}\n")
        self.program.chmod(0o755)
        return list(audit.vulnerabilities(self.program, ["layer/requirements.txt"]))


def release(name: str, *vulnerabilities: str, **more: str) -> dict[str, Any]:
    its = [{"id": each, "fix_versions": ["9.9"], "aliases": [], "description": ""} for each in vulnerabilities]
    return {"name": name, **more} if more else {"name": name, "version": "1.0", "vulns": its}


CONTROL = [release("jinja2", "PYSEC-2019-217"), release("urllib3", "PYSEC-2019-132")]


def test_a_service_that_knows_the_control_is_believed(service: Service) -> None:
    results = service.answers(CONTROL, [release("requests")])
    assert (audit.exit_code(results), results[0].findings, results[0].not_asked) == (console.USABLE, [], "")


def test_a_known_vulnerability_is_a_finding_with_its_remedy(service: Service) -> None:
    results = service.answers(CONTROL, [release("requests", "PYSEC-2030-1")])
    assert results[0].findings == ["requests 1.0: PYSEC-2030-1, fixed in 9.9"]
    assert audit.exit_code(results) == console.FAILED


@pytest.mark.parametrize(
    "control",
    [
        [release("jinja2"), release("urllib3")],
        [release("jinja2", skip_reason="not found"), release("urllib3", skip_reason="not found")],
        [CONTROL[0], release("urllib3")],
        [],
        "",
        "<html>",
    ],
    ids=["knows nothing", "skips", "knows half", "is empty", "says nothing", "says nonsense"],
)
def test_a_service_that_misses_the_control_is_not_believed(service: Service, control: Sequence[object]) -> None:
    results = service.answers(control, [release("requests")])
    assert "no vulnerability service can be used" in results[0].not_asked
    assert audit.exit_code(results) == audit.INCOMPLETE


def test_a_release_unknown_to_the_service_counts_as_unchecked(service: Service) -> None:
    results = service.answers(CONTROL, [release("requests"), release("ours", skip_reason="not found")])
    assert results[0].not_asked == "layer/requirements.txt: unknown to the service: ours"
    assert audit.exit_code(results) == audit.INCOMPLETE


def test_without_pip_audit_nothing_counts_as_checked(tmp_path: Path) -> None:
    results = list(audit.vulnerabilities(tmp_path / "pip-audit"))
    assert "is not installed" in results[0].not_asked


def test_what_was_not_checked_is_not_called_ok(capsys: pytest.CaptureFixture[str]) -> None:
    audit.show([Result("known vulnerabilities", "all", not_asked="the service is out of reach")])
    said = capsys.readouterr().out
    assert "NOT CHECKED" in said
    assert "Not checked: the service is out of reach" in said


def test_all_locked_files_are_checked() -> None:
    found = {
        str(path.relative_to(ROOT)) for folder in ("layer", "requirements") for path in (ROOT / folder).glob("*.txt")
    }
    assert found == set(LOCKED)
