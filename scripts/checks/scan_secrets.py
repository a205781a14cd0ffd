"""`make scan-secrets`: look for keys in every file of the repository, and in the zips that go to AWS.

detect-secrets' own detectors, and one for Alpaca's keys. A finding is shown by its place and kind, never by its text.
"""

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from detect_secrets.core.secrets_collection import SecretsCollection
from detect_secrets.plugins.aws import AWSKeyDetector
from detect_secrets.plugins.base import RegexBasedDetector
from detect_secrets.plugins.private_key import PrivateKeyDetector
from detect_secrets.settings import transient_settings
from rich.text import Text

from scripts import ROOT, console

DIST = ROOT / "layer" / "dist"

ALLOWED: Mapping[tuple[str, str], str] = {
    ("scripts/checks/scan_secrets.py", "Secret Keyword"): "the name of a kind, in detect-secrets' own word",
    ("scripts/testkit/aws.py", "Secret Keyword"): "the word `testing`, as moto wants it",
    ("tests/contract/test_alpaca_broker.py", "Secret Keyword"): "keys of the stand-in, in words",
    ("tests/contract/test_backtest_yahoo.py", "GitHub Token"): "a part of a made-up symbol",
    ("tests/contract/test_cloud_secrets.py", "Alpaca Key"): "keys of the stand-in, which say that they are",
    ("tests/contract/test_reconcile.py", "Secret Keyword"): "a key of the stand-in, in words",
    ("tests/security/test_secrets.py", "AWS Access Key"): "planted, to be found",
    ("tests/security/test_secrets.py", "Alpaca Key"): "planted, to be found",
    ("tests/security/test_secrets.py", "Private Key"): "planted, to be found",
    ("tests/system/test_run.py", "Secret Keyword"): "a key of the stand-in, in a word",
    ("tests/system/test_terraform.py", "Alpaca Key"): "keys of the stand-in, which say that they are",
    ("tests/security/test_rights.py", "Alpaca Key"): "keys of the stand-in, which say that they are",
    ("tests/unit/trader/test_settings.py", "Basic Auth Credentials"): "an address that must be refused",
}
"""What is found and no secret, by file and kind, with the reason. An entry that nothing answers to is an error."""

LOCKED = re.compile(r"(requirements/|layer/)\w+\.txt")
"""Held to names, versions and hashes by scripts/checks/audit.py, line by line."""

DETECTORS = (
    *("AWSKeyDetector", "BasicAuthDetector", "GitHubTokenDetector", "JwtTokenDetector", "KeywordDetector"),
    *("PrivateKeyDetector", "PypiTokenDetector"),
)
"""Of detect-secrets, what somebody who works on this has at hand. Those that take whatever looks random for a secret
are left out: hashes look so, and there are thousands."""


class AlpacaKeyDetector(RegexBasedDetector):
    """A key id, or forty letters and digits of all three kinds, as a secret key has."""

    secret_type = "Alpaca Key"  # noqa: S105 the name of a kind
    denylist = (
        re.compile(r"\b[PA]K(?=[A-Z]*\d)[A-Z0-9]{18,24}\b"),
        re.compile(r"\b(?=[A-Za-z]*\d)(?=[a-z\d]*[A-Z])(?=[A-Z\d]*[a-z])[A-Za-z0-9]{40,44}\b"),
    )


class Finding(NamedTuple):
    """Where something was found, and what kind of secret it looks like."""

    place: str
    line: int
    kind: str


def main() -> None:
    """Look everywhere; the exit code is 1 if anything was found that is not allowed."""
    names = list_tracked()
    zips = sorted(DIST.glob("*.zip"))
    found = [*in_files(ROOT, names), *(finding for path in zips for finding in in_zip(path))]
    wrong = [finding for finding in found if (finding.place, finding.kind) not in ALLOWED]
    idle = sorted(ALLOWED.keys() - {(finding.place, finding.kind) for finding in found})
    for finding in wrong:
        console.OUT.print(
            Text(f" {finding.place}, line {finding.line}: looks like a secret: {finding.kind}", style="red")
        )
    for place, kind in idle:
        console.OUT.print(
            Text(f" {place}: has no {kind} any more; take it off the list of what is allowed", style="red")
        )
    looked = f"{len(names)} files, {', '.join(path.name for path in zips) or 'no zip, as none is built'}"
    console.OUT.print(
        Text(f" {looked}: {len(wrong)} secrets; {len(found) - len(wrong)} findings are allowed, with reasons")
    )
    sys.exit(console.FAILED if wrong or idle else console.USABLE)


def list_tracked(root: Path = ROOT) -> list[str]:
    """The files of the repository that may hold anything: what git has, or would add, without the locked ones."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(words, cwd=root, capture_output=True, text=True, check=True).stdout.split("\0")
    return [name for name in names if name and (root / name).is_file() and not LOCKED.fullmatch(name)]


def in_files(root: Path, names: Sequence[str]) -> list[Finding]:
    """What detect-secrets finds in files below a folder, once for each line and kind."""
    plugins = [{"name": name} for name in DETECTORS]
    plugins.append({"name": AlpacaKeyDetector.__name__, "path": f"file://{__file__}"})
    secrets = SecretsCollection(root=str(root))
    with transient_settings({"plugins_used": plugins}):
        for name in names:
            secrets.scan_file(name)
    return sorted({Finding(name, secret.line_number, secret.type) for name, secret in secrets})


def in_zip(path: Path) -> Iterator[Finding]:
    """Keys of AWS and Alpaca, and private keys, in any file of a zip: it has far too much for every detector."""
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


if __name__ == "__main__":
    main()
