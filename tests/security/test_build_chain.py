"""What is installed has the locked hashes, and what builds cannot ask for an identity token."""

import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from scripts import ROOT
from scripts.checks.audit import versions

UV = versions((ROOT / "requirements/uv.txt").read_text(encoding="utf-8"))["uv"]
ALLOWED = re.compile(r"make (setup|plan|deploy)\b")
"""All that a job with an identity token may make: no layer, no package of the function, no tests."""


def jobs_with_a_token() -> Iterator[tuple[str, Any]]:
    """Yield the name and the content of each job that may ask GitHub for an identity token."""
    for file in sorted((ROOT / ".github/workflows").glob("*.yml")):
        workflow = yaml.safe_load(file.read_text(encoding="utf-8"))
        assert workflow["permissions"] == {}, f"{file.name}: a job must have only the permissions that it names"
        for name, job in workflow["jobs"].items():
            if job["permissions"].get("id-token"):
                yield f"{file.stem}/{name}", job


JOBS = dict(jobs_with_a_token())


def test_only_planning_applying_and_publishing_may_ask_for_an_identity_token() -> None:
    assert sorted(JOBS) == ["deploy/apply", "deploy/plan", "docs/publish"]


@pytest.mark.parametrize("job", JOBS)
def test_a_job_with_an_identity_token_builds_nothing(job: str) -> None:
    commands = "\n".join(step["run"] for step in JOBS[job]["steps"] if "run" in step)
    assert [made for made in re.findall(r"make [\w-]+", commands) if not ALLOWED.match(made)] == []
    assert re.findall(r"\b(pip|uv|npm|curl|wget|apt-get)\b", commands) == []


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """Return a folder with what `make setup` needs, and a directory with another uv of the locked version."""
    text = (ROOT / "scripts/setup.sh").read_text(encoding="utf-8")
    assert " /usr/bin/python3;" in text  # a second Python, with which all would be tried again
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/setup.sh").write_text(text.replace(" /usr/bin/python3;", ";"), encoding="utf-8")
    for name in ("requirements/uv.txt", "requirements/dev.txt", ".python-version"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    wheels, about = tmp_path / "wheels", f"uv-{UV}.dist-info"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / f"uv-{UV}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("uv/__init__.py", "")
        wheel.writestr(f"uv-{UV}.data/scripts/uv", "#!/bin/sh\ntouch owned\n")
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: uv\nVersion: {UV}\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    return tmp_path


def test_a_uv_without_the_locked_hash_is_not_installed(fresh: Path) -> None:
    only = fresh / "bin"  # a PATH without uv, and with one Python
    only.mkdir()
    for name in ("sh", "dirname", "rm", "touch"):
        (only / name).symlink_to(shutil.which(name) or name)
    python = Path(sys.base_prefix, "bin", "python3")
    # The environment that it makes takes its pip from there, because to install another takes ten times as long.
    (only / "python3").write_text(
        f'#!/bin/sh\n[ "$*" = "-m venv .uv" ] && set -- "$@" --without-pip --system-site-packages\nexec {python} "$@"\n'
    )
    (only / "python3").chmod(0o755)
    env = {"PATH": str(only), "HOME": str(fresh), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(fresh / "wheels")}
    done = subprocess.run(
        ["/bin/sh", "scripts/setup.sh"], cwd=fresh, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not (fresh / "owned").exists()
    assert not (fresh / ".uv").exists()
