"""A room like Lambda's, where the machine can make one: bubblewrap, with read-only folders and no network."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

TMP_BYTES = 512 * 1024**2
"""Lambda's /tmp, unless more is paid for."""

USER, GROUP = 993, 990
"""Lambda's own sbx_user1051 has these."""

ZONES = Path("/usr/share/zoneinfo")
DEVICES = ("null", "zero", "full", "random", "urandom")
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc")


def command(folders: Mapping[str, Path], visible: Iterable[Path]) -> Sequence[str]:
    """The words before a command that put it into the room.

    `folders` are shown read-only at other places (by place), `visible` where they are. /tmp is empty and can be
    written; there is no /dev/shm, no network but loopback, no time zone, and no privilege.
    """
    options = ["bwrap", "--unshare-all", "--die-with-parent", "--cap-drop", "ALL"]
    options += ["--uid", str(USER), "--gid", str(GROUP), "--proc", "/proc"]
    for place in SYSTEM:
        options += ["--ro-bind-try", place, place]
    for device in DEVICES:
        options += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    options += ["--size", str(TMP_BYTES), "--tmpfs", "/tmp"]  # noqa: S108 the place that Lambda has
    for path in visible:
        options += ["--ro-bind", str(path), str(path)]
    if ZONES.is_dir():  # after what is visible, for that may be all of /usr
        options += ["--tmpfs", str(ZONES), "--remount-ro", str(ZONES)]
    for place, path in folders.items():
        options += ["--ro-bind", str(path), place]
    return [*options, "--remount-ro", "/"]


def missing() -> str:
    """Why this machine cannot make such a room; empty if it can."""
    if sys.platform != "linux":
        return f"{sys.platform} has no namespaces"
    if not shutil.which("bwrap"):
        return "bubblewrap is not installed (on Debian and Ubuntu: apt install bubblewrap)"
    tried = subprocess.run([*command({}, []), "true"], check=False, capture_output=True, text=True)
    return f"bubblewrap may not: {tried.stderr.strip()}" if tried.returncode != 0 else ""


def enclosing(paths: Iterable[Path]) -> Sequence[Path]:
    """The paths, their links followed, without those that lie in others: what has to be visible."""
    real = sorted({Path(os.path.realpath(path)) for path in paths} | {path.absolute() for path in paths})
    return [path for path in real if not any(other in path.parents for other in real)]
