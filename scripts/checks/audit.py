"""`make audit`: check every locked package for known problems, and the form of the lock files.

It has three parts: the lock files themselves, offline; the package index, for yanked releases; and a vulnerability
service. A service that knows nothing would report no findings, so it is first asked about releases that are known to
be vulnerable, and trusted only if it reports them. A check that could not be made is reported and does not pass.
"""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from rich.text import Text

from scripts import ROOT, console
from scripts.console import format_count

LAYER, EMULATOR, RUN, DEV = (
    "layer/requirements.txt",
    "layer/emulator.txt",
    "requirements/run.txt",
    "requirements/dev.txt",
)
LINTERS, KERNEL, UV = "requirements/linters.txt", "requirements/kernel.txt", "requirements/uv.txt"
PEERS = "requirements/peers.txt"
LOCKED = (LAYER, EMULATOR, RUN, DEV, LINTERS, KERNEL, PEERS, UV)
SAME = (LAYER, EMULATOR, RUN, DEV, UV)
"""Files that must agree on each package's version: what is tested is what is shipped."""

PIN = re.compile(r"[a-z0-9-]+(\[[a-z0-9,-]+\])?==[^\s;*]+( ; [^#\\@]+)?( \\)?")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")

CONTROL = ("jinja2==2.10", "urllib3==1.24.1")
"""Releases that every service has listed as vulnerable since 2019."""

SERVICES = ("pypi", "osv")
PIP_AUDIT = ROOT / ".venv" / "linters" / "bin" / "pip-audit"
INCOMPLETE = 3
"""The exit code if nothing was found, but not every check could be made."""

type Versions = Mapping[str, str]
"""The version of each package in one lock file, by package name."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one check: its findings, or the reason why it could not be made."""

    check: str
    of: str
    findings: Sequence[str] = ()
    not_asked: str = ""


def main() -> None:
    """Run the checks and show them; exit with 1 after a finding, 3 if a check could not be made."""
    results = [*offline()]
    if not console.flag("OFFLINE"):
        results += [*index(), *vulnerabilities()]
    show(results)
    sys.exit(exit_code(results))


def exit_code(results: Sequence[Result]) -> int:
    """Return 1 after a finding, otherwise 3 if a check could not be made, else 0."""
    if any(result.findings for result in results):
        return console.FAILED
    return INCOMPLETE if any(result.not_asked for result in results) else console.USABLE


def show(results: Sequence[Result]) -> None:
    """Print a table, then each finding, then each check that could not be made."""
    table = console.table("Check", "Of", "Result")
    for result in results:
        said = "NOT CHECKED" if result.not_asked else "ok"
        if result.findings:
            said = format_count(len(result.findings), "finding")
        table.add_row(result.check, result.of, Text(said, style="red" if said != "ok" else "green"))
    console.OUT.print(table)
    for result in results:
        for finding in result.findings:
            console.OUT.print(Text(f" {result.of}: {finding}", style="red"), soft_wrap=True)
    for reason in dict.fromkeys(result.not_asked for result in results if result.not_asked):
        console.OUT.print(Text(f" Not checked: {reason}", style="yellow"), soft_wrap=True)
    if console.flag("OFFLINE"):
        console.OUT.print(
            " OFFLINE: neither the package index nor a vulnerability service was queried.", style="yellow"
        )


# --- offline checks ---


def offline(root: Path = ROOT) -> Iterator[Result]:
    """Check the form of every lock file, and their consistency with each other and with pyproject.toml."""
    texts = {name: (root / name).read_text(encoding="utf-8") for name in LOCKED}
    for name, text in texts.items():
        yield Result("pinned, with hashes, no URLs", name, tuple(find_malformed(text)))
    locked = {name: versions(text) for name, text in texts.items()}
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    groups = project["dependency-groups"]
    alone = {
        name: [line for line in text.splitlines() if line and not line.startswith("#")]
        for name in (LINTERS, KERNEL)
        for text in [(root / name).with_suffix(".in").read_text(encoding="utf-8")]
    }
    extras = project["project"]["optional-dependencies"].values()
    run = [*project["project"]["dependencies"], *(each for extra in extras for each in extra), *groups["lambda"]]
    wanted = {
        LAYER: groups["lambda"],
        RUN: run,
        DEV: [*run, *groups["dev"]],
        EMULATOR: groups["emulator"],
        UV: [each for each in groups["dev"] if each.startswith("uv")],
        **alone,
    }
    for name, requirements in wanted.items():
        yield Result("meets the requirements", name, tuple(unmet(requirements, locked[name])))
    yield Result("agree with each other", ", ".join(SAME), tuple(differing({name: locked[name] for name in SAME})))


def find_malformed(text: str) -> Iterator[str]:
    """Yield every line that is neither a pinned package nor a SHA-256, and every package without a SHA-256."""
    package, hashes = "", 1
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        if HASH.fullmatch(line):
            hashes += 1
            continue
        if not hashes:
            yield f"line {number - 1}: {package} has no hash"
        package, hashes = line.split("==")[0], 0 if line else 1
        if line and not PIN.fullmatch(line):
            yield f"line {number}: {line[:80]!r} is not a package pinned to one version"
            hashes = 1


def versions(text: str) -> Versions:
    """Return the version of each package; both versions if it is locked twice, for two systems."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        if PIN.fullmatch(line):
            name, version = line.removesuffix(" \\").split(" ;")[0].split("==")
            name = canonicalize_name(name.split("[")[0])
            found[name] = " and ".join(dict.fromkeys([*found.get(name, version).split(" and "), version]))
    return found


def unmet(requirements: Sequence[str], locked: Versions) -> Iterator[str]:
    """Yield the requirements that are not locked, or locked in a version that they do not allow."""
    for text in requirements:
        try:
            wanted = Requirement(text)
        except InvalidRequirement as error:
            yield f"{text}: {error}"
            continue
        version = locked.get(canonicalize_name(wanted.name))
        if wanted.url:
            yield f"{text}: comes from a URL, not from the package index"
        elif version is None:
            yield f"{text} is not locked; run make lock"
        elif not all(wanted.specifier.contains(each, prereleases=True) for each in version.split(" and ")):
            yield f"{text} is required, but {version} is locked; run make lock"


def differing(files: Mapping[str, Versions]) -> Iterator[str]:
    """Yield the packages whose versions differ between files."""
    for name in sorted({name for locked in files.values() for name in locked}):
        told = {file: locked[name] for file, locked in files.items() if name in locked}
        if len(set(told.values())) > 1:
            yield f"{name} is {' but '.join(f'{version} in {file}' for file, version in told.items())}"


# --- the package index ---


def index() -> Iterator[Result]:
    """Find packages that the index has yanked or has no wheel for, by a dry run of uv that installs nothing."""
    for name in LOCKED:
        with TemporaryDirectory() as folder:
            command = [str(ROOT / ".venv/bin/uv"), "pip", "install", "--dry-run", "--no-deps", "--require-hashes"]
            command += ["--only-binary", ":all:", "--python-version", "3.13", "--target", folder, "-r", name]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        said = " ".join(done.stderr.split())
        yanked = [line.removeprefix("warning: ") for line in done.stderr.splitlines() if " is yanked" in line]
        if done.returncode and "no usable wheels" in said:
            yield Result("has wheels, none yanked", name, (said,))
        elif done.returncode:
            yield Result("has wheels, none yanked", name, not_asked=f"uv could not check the index: {said[:300]}")
        else:
            yield Result("has wheels, none yanked", name, yanked)


# --- known vulnerabilities ---


def vulnerabilities(program: Path = PIP_AUDIT, files: Sequence[str] = LOCKED) -> Iterator[Result]:
    """Ask pip-audit's services about each locked release; the first that reports the control releases is trusted."""
    check, reasons = "known vulnerabilities", []
    if not program.is_file():
        yield Result(check, "all", not_asked=f"{program.name} is not installed; run scripts/linters.sh")
        return
    for service in SERVICES:
        with TemporaryDirectory() as folder:
            control = Path(folder) / "control.txt"
            control.write_text("\n".join(CONTROL) + "\n")
            answer = ask_service(program, service, control, "--no-deps")
        if isinstance(answer, str):
            reasons.append(f"{service}: {answer}")
        elif sum(bool(each.get("vulns")) for each in answer) < len(CONTROL):
            reasons.append(f"{service}: it does not report {' and '.join(CONTROL)}, which are vulnerable")
        else:
            yield from (
                read_answer(check, name, ask_service(program, service, ROOT / name, "--require-hashes"))
                for name in files
            )
            return
    yield Result(check, ", ".join(files), not_asked=f"no vulnerability service can be used ({'; '.join(reasons)})")


def read_answer(check: str, name: str, answer: Sequence[Mapping[str, Any]] | str) -> Result:
    """Convert the service's answer for one file; a release that the service does not know counts as not checked."""
    if isinstance(answer, str):
        return Result(check, name, not_asked=f"{name}: {answer}")
    found = [
        f"{each['name']} {each['version']}: {its['id']}, fixed in {', '.join(its['fix_versions']) or 'no release'}"
        for each in answer
        for its in each.get("vulns", ())
    ]
    skipped = [each["name"] for each in answer if each.get("skip_reason")]
    return Result(check, name, found, f"{name}: unknown to the service: {', '.join(skipped)}" if skipped else "")


def ask_service(program: Path, service: str, path: Path, *more: str) -> Sequence[Mapping[str, Any]] | str:
    """Return pip-audit's answer for each package of a file, or the reason why there is none."""
    command = [
        str(program),
        "--vulnerability-service",
        service,
        "--disable-pip",
        "--format",
        "json",
        "-r",
        str(path),
        *more,
    ]
    try:
        done = subprocess.run(
            [*command, "--progress-spinner", "off"], capture_output=True, text=True, check=False, timeout=600
        )
        answer = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return "no answer in 600 s"
    except (ValueError, KeyError):
        return f"no answer ({(done.stderr.strip().splitlines() or ['no error message'])[-1][:200]})"
    return list(answer)
