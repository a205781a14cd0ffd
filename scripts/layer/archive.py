"""Zips that come out the same to the byte, and go in as Lambda unpacks them."""

import errno
import hashlib
import shutil
import stat
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import scripts.files
from scripts.layer.elf import is_program
from scripts.layer.target import DISK, BrokenLayerError, LayerError
from trader.progress import Progress, no_progress

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The first moment that a zip can name."""

LEVEL = 7
"""Of compression: 9 takes twice the time for 0.4 % less."""

HINDRANCES = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}
"""Errors of a file system that a person can do something about."""

UNIX = 3
"""The system whose file modes an entry carries."""


def write_zip(path: Path, root: Path, files: Collection[Path], progress: Progress = no_progress) -> None:
    """Write files, named relative to `root`: sorted, all of one time, readable by any user, programs executable.

    The same files give the same bytes with the same zlib. Raises OSError; what is at `path` is then not whole.
    """
    with zipfile.ZipFile(path, "w") as archive:
        ordered = sorted(files, key=lambda file: file.relative_to(root).as_posix())
        for done, file in enumerate(ordered, start=1):
            entry = zipfile.ZipInfo(file.relative_to(root).as_posix(), EPOCH)
            entry.create_system = UNIX
            entry.external_attr = (stat.S_IFREG | (0o755 if is_program(file) else 0o644)) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, file.read_bytes(), compresslevel=LEVEL)
            progress("zip", done, len(ordered))


def unpack(path: Path, folder: Path) -> None:
    """Unpack as Lambda does, each file with what its mode gives to other users: the function runs as another one.

    Raises BrokenLayerError for what is no whole zip, and LayerError where it cannot be written.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                file = Path(archive.extract(entry, folder))
                others = (entry.external_attr >> 16) & stat.S_IRWXO
                file.chmod(others << 6 | others << 3 | others)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise BrokenLayerError(f"{path.name} is no whole zip: {error}; build it again") from error
    except OSError as error:
        raise LayerError(f"{path.name} cannot be unpacked: {error.strerror}; {remedy(error, folder)}") from error


def sha256(path: Path) -> str:
    """The hash by which two builds are compared."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """A file to write beside `path`, which takes its place when all went well, and is gone when not.

    Raises LayerError for a full disk, or a folder that cannot be written.
    """
    try:
        with scripts.files.replace_file(path) as part:
            yield part
    except OSError as error:
        raise LayerError(f"{path.name} cannot be written: {error.strerror or error}; {remedy(error, path)}") from error


def remedy(error: OSError, path: Path) -> str:
    """What to do about a file that cannot be written."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        free = shutil.disk_usage(next(folder for folder in path.parents if folder.exists())).free
        return f"{free / 1e6:,.0f} MB are free, and {DISK}"
    return f"see who may write to {path.parent.name}/"
