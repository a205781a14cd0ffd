"""A sandbox like Lambda's, if the machine can create one: bubblewrap, with read-only folders and no network."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

TMP_BYTES = 512 * 1024**2
"""The default size of Lambda's /tmp."""

USER, GROUP = 993, 990
"""The ids of Lambda's own user, sbx_user1051."""

ZONES = Path("/usr/share/zoneinfo")
DEVICES = ("null", "zero", "full", "random", "urandom")
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc")


def command(folders: Mapping[str, Path], visible: Iterable[Path]) -> Sequence[str]:
    """Return the words to put before a command to run it in the sandbox.

    `folders` are mounted read-only at other paths (the keys), `visible` at their own. /tmp is empty and writable.
    The sandbox has no /dev/shm, no network but loopback, no time zones and no privileges.
    """
    options = ["bwrap", "--unshare-all", "--die-with-parent", "--cap-drop", "ALL"]
    options += ["--uid", str(USER), "--gid", str(GROUP), "--proc", "/proc"]
    for place in SYSTEM:
        options += ["--ro-bind-try", place, place]
    for device in DEVICES:
        options += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    options += ["--size", str(TMP_BYTES), "--tmpfs", "/tmp"]  # noqa: S108 the path that Lambda has
    for path in visible:
        options += ["--ro-bind", str(path), str(path)]
    if ZONES.is_dir():  # after the visible paths, which may include all of /usr
        options += ["--tmpfs", str(ZONES), "--remount-ro", str(ZONES)]
    for place, path in folders.items():
        options += ["--ro-bind", str(path), place]
    return [*options, "--remount-ro", "/"]


def missing() -> str:
    """Return why this machine cannot create the sandbox; empty if it can."""
    if sys.platform != "linux":
        return f"{sys.platform} has no Linux namespaces"
    if not shutil.which("bwrap"):
        return "bubblewrap is not installed (on Debian and Ubuntu: apt install bubblewrap)"
    tried = subprocess.run([*command({}, []), "true"], check=False, capture_output=True, text=True)
    return f"bubblewrap failed: {tried.stderr.strip()}" if tried.returncode != 0 else ""


def enclosing(paths: Iterable[Path]) -> Sequence[Path]:
    """Return the paths, and those that they link to, without paths inside others: these must be visible."""
    real = sorted({Path(os.path.realpath(path)) for path in paths} | {path.absolute() for path in paths})
    return [path for path in real if not any(other in path.parents for other in real)]
