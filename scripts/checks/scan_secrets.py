"""`make scan-secrets`: look for keys in every file of the repository and in the zips for AWS.

It uses detect-secrets' detectors and one for Alpaca's keys. A finding is shown by place and kind, never by its text.
"""

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from detect_secrets.core.secrets_collection import SecretsCollection
from detect_secrets.filters.heuristic import is_indirect_reference
from detect_secrets.plugins import keyword
from detect_secrets.plugins.aws import AWSKeyDetector
from detect_secrets.plugins.base import RegexBasedDetector
from detect_secrets.plugins.private_key import PrivateKeyDetector
from detect_secrets.settings import get_plugins, transient_settings
from rich.text import Text

from scripts import ROOT, console
from scripts.console import format_count

DIST = ROOT / "layer" / "dist"

ALLOWED: Mapping[tuple[str, str], str] = {
    ("scripts/checks/scan_secrets.py", "Secret Keyword"): "the name of a kind of secret in detect-secrets",
    ("scripts/testkit/aws.py", "Secret Keyword"): "the word `testing`, which moto expects",
    ("tests/contract/test_alpaca_broker.py", "Secret Keyword"): "keys of the stand-in, in plain words",
    ("tests/contract/test_cloud_secrets.py", "Alpaca Key"): "keys of the stand-in, marked as such",
    ("tests/contract/test_reconcile.py", "Secret Keyword"): "a key of the stand-in, in plain words",
    ("tests/docs/not_run.toml", "Secret Keyword"): "the name of a command",
    **{
        ("tests/security/test_secrets.py", kind): "planted for the test to find"
        for kind in (
            *("AWS Access Key", "Alpaca Key", "Basic Auth Credentials", "JSON Web Token", "Private Key"),
            "Secret Keyword",
        )
    },
    ("tests/system/test_make.py", "Secret Keyword"): "the word `secret`, on a command line that is refused",
    ("tests/system/test_run.py", "Secret Keyword"): "a key of the stand-in, in a plain word",
    ("tests/system/test_terraform.py", "Alpaca Key"): "keys of the stand-in, marked as such",
    ("tests/security/test_rights.py", "Alpaca Key"): "keys of the stand-in, marked as such",
    ("tests/unit/trader/test_settings.py", "Basic Auth Credentials"): "an address that must be refused",
}
"""Findings that are not secrets, by file and kind, with the reason. An entry without a finding is an error."""

LOCKED = re.compile(r"(requirements/|layer/)\w+\.txt")
"""The lock files; scripts/checks/audit.py checks each of their lines."""

DETECTORS = (
    *("AWSKeyDetector", "BasicAuthDetector", "GitHubTokenDetector", "JwtTokenDetector", "KeywordDetector"),
    *("PrivateKeyDetector", "PypiTokenDetector"),
)
"""detect-secrets' detectors for the kinds of secrets that a developer of this project has. Detectors of random text are
left out: they would report thousands of hashes."""


class AlpacaKeyDetector(RegexBasedDetector):
    """A detector of Alpaca's key ids, and of secret keys: 40 to 44 mixed capitals, lower-case letters and digits."""

    secret_type = "Alpaca Key"  # noqa: S105 the name of a kind of secret
    denylist = (
        re.compile(r"\b[PA]K(?=[A-Z]*\d)[A-Z0-9]{18,24}\b"),
        re.compile(r"\b(?=[A-Za-z]*\d)(?=[a-z\d]*[A-Z])(?=[A-Z\d]*[a-z])[A-Za-z0-9]{40,44}\b"),
    )


class Finding(NamedTuple):
    """The place of a finding, and the kind of secret that it looks like."""

    place: str
    line: int
    kind: str


def main() -> None:
    """Scan everything; exit with 1 after a finding that is not allowed, or if an allowed one is no longer found."""
    names = list_tracked()
    zips = sorted(DIST.glob("*.zip"))
    found = [*in_files(ROOT, names), *(finding for path in zips for finding in in_zip(path))]
    problems = list_problems(found)
    for problem in problems:
        console.OUT.print(Text(f" {problem}", style="red"), soft_wrap=True)
    looked = f"{format_count(len(names), 'file')}, {', '.join(path.name for path in zips) or 'no zip (none is built)'}"
    allowed = sum((finding.place, finding.kind) in ALLOWED for finding in found)
    words = f" {looked}: {format_count(len(problems), 'problem')}; {format_count(allowed, 'finding')} allowed"
    console.OUT.print(Text(words), soft_wrap=True)
    sys.exit(console.FAILED if problems else console.USABLE)


def list_problems(found: Sequence[Finding]) -> list[str]:
    """Return what to mend: each finding that is not allowed, and each allowed one that is no longer found."""
    kinds = {(finding.place, finding.kind) for finding in found}
    return [
        *(
            f"{finding.place}, line {finding.line}: looks like a secret ({finding.kind}); remove it, and revoke it if "
            "it was ever pushed; if it is no secret, add it to ALLOWED in scripts/checks/scan_secrets.py"
            for finding in found
            if (finding.place, finding.kind) not in ALLOWED
        ),
        *(
            f"{place}: {kind} is allowed but no longer there; remove it from ALLOWED in scripts/checks/scan_secrets.py"
            for place, kind in sorted(ALLOWED.keys() - kinds)
        ),
    ]


def list_tracked(root: Path = ROOT) -> list[str]:
    """List the files that git tracks or would add, except the lock files."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(words, cwd=root, capture_output=True, text=True, check=True).stdout.split("\0")
    return [name for name in names if name and (root / name).is_file() and not LOCKED.fullmatch(name)]


def is_indirect(secret: str, line: str) -> bool:  # noqa: ARG001 detect-secrets goes by the names of the parameters
    """Return whether a finding is a reference such as `key = get_key()`: detect-secrets' own filter."""
    return is_indirect_reference(line)


def in_files(root: Path, names: Sequence[str]) -> list[Finding]:
    """Return detect-secrets' findings in files below a folder, once for each line and kind."""
    plugins = [{"name": name} for name in DETECTORS]
    plugins.append({"name": AlpacaKeyDetector.__name__, "path": f"file://{__file__}"})
    secrets = SecretsCollection(root=str(root))
    with transient_settings({"plugins_used": plugins}) as settings:
        # detect-secrets asks this filter of every line, which takes longer than all detectors: ask it of findings only.
        settings.filters[f"file://{__file__}::{is_indirect.__name__}"] = {}
        settings.disable_filters(f"{is_indirect_reference.__module__}.{is_indirect_reference.__name__}")
        patterns = list_patterns()
        for name in names:
            if may_hold((root / name).read_bytes().decode("utf-8", errors="replace"), patterns):
                secrets.scan_file(name)
    return sorted({Finding(name, secret.line_number, secret.type) for name, secret in secrets})


def list_patterns() -> list[re.Pattern[str]]:
    """Return patterns of which one at least is in every text with a finding, for the detectors now in use."""
    found = [re.compile("|".join(keyword.DENYLIST), re.IGNORECASE)]
    for detector in get_plugins():
        assert isinstance(detector, RegexBasedDetector | keyword.KeywordDetector), "any other finds more"
        found += getattr(detector, "denylist", [])
    return found


def may_hold(text: str, patterns: Sequence[re.Pattern[str]]) -> bool:
    """Return whether a text is worth a look: detect-secrets takes a tenth of a millisecond for each line."""
    return any(pattern.search(text) for pattern in patterns)


def in_zip(path: Path) -> Iterator[Finding]:
    """Yield AWS keys, Alpaca keys and private keys in any file of a zip; all detectors would take too long on a zip."""
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            text = archive.read(entry).decode("latin-1")
            for kind, pattern in IN_ZIPS:
                for match in pattern.finditer(text):
                    line = text.count("\n", 0, match.start()) + 1
                    yield Finding(f"{path.name}/{entry.filename}", line, kind)


IN_ZIPS = [
    (kind, pattern)
    for kind, patterns in (
        (AWSKeyDetector.secret_type, AWSKeyDetector.denylist[:1]),
        (PrivateKeyDetector.secret_type, PrivateKeyDetector.denylist),
        (AlpacaKeyDetector.secret_type, AlpacaKeyDetector.denylist[:1]),
    )
    for pattern in patterns
]
