"""`make package`: the function's own zip, the same to the byte each time."""

from collections.abc import Sequence
from pathlib import Path

from scripts import ROOT, console
from scripts.layer.archive import replace_file, sha256, write_zip
from scripts.layer.target import DIST, LayerError, shorten_path

FUNCTION = ROOT / "function"
ZIP = DIST / "function.zip"
MAX_BYTES = 2_000_000
SUFFIXES = {".py", ".csv", ".gz"}
"""What the function consists of: code, the constituents, the sample prices."""


def contents(folder: Path = FUNCTION) -> Sequence[Path]:
    """The files of the function, without what Python, editors and tests leave beside them."""
    return [
        file
        for file in folder.rglob("*")
        if file.is_file()
        and file.suffix in SUFFIXES
        and not any(part.startswith((".", "__pycache__")) or part == "tests" for part in file.relative_to(folder).parts)
    ]


def package(folder: Path = FUNCTION, zip_file: Path = ZIP) -> Path:
    """Write the zip. Raises LayerError if it is larger than a function should be."""
    files = contents(folder)
    with replace_file(zip_file) as part:
        write_zip(part, folder, files)
        if (size := part.stat().st_size) > MAX_BYTES:
            biggest = max(files, key=lambda file: file.stat().st_size)
            raise LayerError(
                f"{zip_file.name} would have {size:,} bytes, and {MAX_BYTES:,} are allowed; the biggest part is "
                f"{biggest.relative_to(folder)}"
            )
    return zip_file


def main() -> None:
    """Write the zip and say what is in it."""
    with console.plain_errors(interrupted="interrupted; layer/dist is as it was"):
        written = package()
        size, count = written.stat().st_size, len(contents())
        if console.flag("JSON"):
            report = {"zip": shorten_path(written), "sha256": sha256(written), "files": count, "bytes": size}
            console.print_json(report)
            return
        console.OUT.print(f" {shorten_path(written)}: {count} files, {size:,} bytes", markup=False)
        console.OUT.print(f" sha256 {sha256(written)}", style="dim", markup=False)


if __name__ == "__main__":
    main()
