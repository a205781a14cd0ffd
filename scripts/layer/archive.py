"""Reproducible zips, and unpacking them as Lambda does."""

import errno
import hashlib
import shutil
import stat
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import scripts.files
from scripts.layer.elf import is_program
from scripts.layer.target import DISK, BrokenLayerError, LayerError
from trader.progress import Progress, no_progress

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can record."""

LEVEL = 7
"""The compression level; 9 takes twice as long and saves only 0.4%."""

HINDRANCES = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}
"""File system errors that the user can fix."""

UNIX = 3
"""The number that marks a zip's entry as made on Unix, with Unix file modes."""


def write_zip(path: Path, root: Path, files: Collection[Path], progress: Progress = no_progress) -> None:
    """Write files, named relative to `root`; see write_named."""
    write_named(path, {file.relative_to(root).as_posix(): file for file in files}, progress)


def write_named(path: Path, files: Mapping[str, Path], progress: Progress = no_progress) -> None:
    """Write files by name: sorted, with one timestamp, readable by any user, programs executable.

    The same files give the same bytes with the same zlib. Raises OSError; the zip at `path` is then incomplete.
    """
    with zipfile.ZipFile(path, "w") as archive:
        ordered = sorted(files.items())
        for done, (name, file) in enumerate(ordered, start=1):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.create_system = UNIX
            entry.external_attr = (stat.S_IFREG | (0o755 if is_program(file) else 0o644)) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, file.read_bytes(), compresslevel=LEVEL)
            progress("zip", done, len(ordered))


def unpack(path: Path, folder: Path) -> None:
    """Unpack as Lambda does: each file gets the permissions of "others", because the function runs as another user.

    Raises BrokenLayerError if the zip is damaged, and LayerError if the folder cannot be written.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                file = Path(archive.extract(entry, folder))
                others = (entry.external_attr >> 16) & stat.S_IRWXO
                file.chmod(others << 6 | others << 3 | others)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise BrokenLayerError(f"{path.name} is not a complete zip: {error}; build it again") from error
    except OSError as error:
        raise LayerError(f"{path.name} cannot be unpacked: {error.strerror}; {remedy(error, folder)}") from error


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, used to compare builds."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yield a temporary file next to `path`; it replaces `path` on success and is deleted on failure.

    Raises LayerError if the disk is full or the folder cannot be written.
    """
    try:
        with scripts.files.replace_file(path) as part:
            yield part
    except OSError as error:
        raise LayerError(f"{path.name} cannot be written: {error.strerror or error}; {remedy(error, path)}") from error


def remedy(error: OSError, path: Path) -> str:
    """Return advice on a file that cannot be written."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        free = shutil.disk_usage(next(folder for folder in path.parents if folder.exists())).free
        return f"{free / 1e6:,.0f} MB are free, but {DISK}"
    return f"check the permissions of {path.parent.name}/"
