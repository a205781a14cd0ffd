"""The page's own files: our code as a zip, Prophet's answers, a lock file for Pyodide, and the licenses."""

import hashlib
import html
import json
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

from scripts import ROOT
from scripts.backtest import answers, in_browser, options, prices
from scripts.docs.browser import parts
from scripts.docs.browser.parts import CORE, PYODIDE, Parts, Wheel
from scripts.files import replace_file

PAGE = ROOT / "docs/try"
"""The page's HTML, scripts and style, and the texts of licenses that no wheel contains."""

RULES = re.findall(r'<option value="(\w+)"', (PAGE / "backtest.html").read_text(encoding="utf-8"))
"""The rules that the page offers. One that fits up to 5,000 bars would take minutes in a browser."""

CODE = (
    "scripts/__init__.py",
    *(f"scripts/cloud/{name}.py" for name in ("__init__", "cron", "rhythms", "usage")),
    "scripts/console.py",
    "scripts/data/__init__.py",
    "scripts/data/members.py",
    "scripts/data/sp500_members.csv",
    "scripts/files.py",
)
FOLDERS = {"function/trader": "trader", "scripts/backtest": "scripts/backtest", "scripts/report": "scripts/report"}
"""Our code for the page: single files, and folders with their names in the zip."""

ANSWERS = parts.CACHE
"""The folder in which Prophet's answers are kept."""

LEFT_OUT = {
    "markupsafe": r".*\.so$",  # compiled for Linux; MarkupSafe works without it
}
"""Files of wheels that the page does not need."""

DATE = (2020, 1, 1, 0, 0, 0)
"""The date of every file in a zip, so that the same code gives the same zip."""


def assemble(site: Path) -> None:
    """Add the folder `try` to a built site: everything that its backtest needs. Raises PartError."""
    folder = site / "try"
    shutil.copytree(PAGE, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("backtest.html"))  # part of a page
    fetched = parts.fetch()
    python = folder / "python"
    python.mkdir(exist_ok=True)
    for name in CORE:
        shutil.copyfile(fetched.core / name, python / name)
    served = [_serve(wheel, python) for wheel in fetched.wheels]
    (python / "pyodide-lock.json").write_text(_lock(fetched, served), encoding="utf-8")
    code = zip_code()
    (python / "code.zip").write_bytes(code)
    _write_licenses(fetched, folder / "licenses")
    sizes = {path.name: path.stat().st_size for path in sorted(python.iterdir())}
    manifest = {
        "packages": [wheel.name for wheel in served],
        "bytes": sum(sizes.values()),
        "files": sizes,
        "version": hashlib.sha256(code).hexdigest()[:12],
        "rules": RULES,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def zip_code() -> bytes:
    """Return our code, the sample prices and Prophet's answers for them as a zip: the same for the same code."""
    files = dict(_code())
    about = hashlib.sha256(b"".join(name.encode() + data for name, data in sorted(files.items()))).hexdigest()
    files[f"scripts/backtest/{in_browser.ANSWERS.name}"] = _answers(about).encode()
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in sorted(files.items()):
            made.writestr(zipfile.ZipInfo(name, DATE), data, zipfile.ZIP_DEFLATED, 9)
    return packed.getvalue()


def _code() -> Iterator[tuple[str, bytes]]:
    for name in CODE:
        yield name, (ROOT / name).read_bytes()
    for folder, target in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                yield f"{target}/{path.relative_to(ROOT / folder).as_posix()}", path.read_bytes()


def _answers(about: str) -> str:
    """Return Prophet's answers for the sample under each rule; they are kept until the code or the sample changes."""
    kept = ANSWERS / f"answers-{about[:16]}.json"
    if not kept.is_file():
        found: answers.Answers = {}
        for rule in RULES:
            wanted = options.from_env({**in_browser.ENV, "SIGNAL": rule})
            found |= answers.collect(prices.load(wanted), wanted)
        with replace_file(kept) as part:
            part.write_text(answers.write(found), encoding="utf-8")
    return kept.read_text(encoding="utf-8")


def _serve(wheel: Wheel, folder: Path) -> Wheel:
    """Put a wheel into the site: as it is, or without the files of LEFT_OUT."""
    unused = LEFT_OUT.get(wheel.name)
    if unused is None:
        shutil.copyfile(wheel.path, folder / wheel.path.name)
        return Wheel(name=wheel.name, version=wheel.version, path=folder / wheel.path.name)
    name = f"{wheel.name}-{wheel.version}-py3-none-any.whl" if wheel.name == "markupsafe" else wheel.path.name
    with zipfile.ZipFile(wheel.path) as packed, zipfile.ZipFile(folder / name, "w") as made:
        for each in sorted(packed.namelist()):
            if not re.match(unused, each):
                made.writestr(zipfile.ZipInfo(each, DATE), packed.read(each), zipfile.ZIP_DEFLATED, 9)
    return Wheel(name=wheel.name, version=wheel.version, path=folder / name)


def _lock(fetched: Parts, served: list[Wheel]) -> str:
    """Return the lock file with which Pyodide loads the wheels of the site, and no others, and checks their hashes."""
    packages: Mapping[str, Mapping[str, object]] = {
        wheel.name: {
            "name": wheel.name,
            "version": wheel.version,
            "file_name": wheel.path.name,
            "sha256": wheel.sha256,
            "install_dir": "site",
            "package_type": "package",
            "imports": [],
            "depends": [],
            "unvendored_tests": False,
        }
        for wheel in served
    }
    return json.dumps({"info": fetched.info, "packages": packages}, indent=1)


def _write_licenses(fetched: Parts, folder: Path) -> None:
    """Write the license texts of everything that is served, and a page that lists them."""
    shutil.copyfile(ROOT / "LICENSE", folder / "prophet-trader.txt")
    rows = [
        _row("prophet-trader", "the source of this page", ["prophet-trader.txt"]),
        _row(f"Pyodide {PYODIDE}", f"npm's package pyodide@{PYODIDE}, with CPython", ["MPL-2.0.txt", "Python.txt"]),
    ]
    for wheel in fetched.wheels:
        texts = []
        with zipfile.ZipFile(wheel.path) as packed:
            for name in sorted(packed.namelist()):
                if ".dist-info/" in name and ("licen" in name.lower() or "copying" in name.lower()):
                    texts.append(f"{wheel.name}-{name.split('.dist-info/')[1].replace('/', '-')}.txt")
                    (folder / texts[-1]).write_bytes(packed.read(name))
        rows.append(_row(f"{wheel.name} {wheel.version}", f"{wheel.path.name}, sha256 {wheel.sha256}", texts))
    page = (folder / "index.html").read_text(encoding="utf-8")
    (folder / "index.html").write_text(page.replace("<!-- rows -->", "\n".join(rows)), encoding="utf-8")


def _row(part: str, source: str, texts: Sequence[str]) -> str:
    """Return the row of a part in the list of licenses."""
    links = ", ".join(f'<a href="{quote(text)}">{html.escape(text)}</a>' for text in texts)
    return f"<tr><th scope=row>{html.escape(part)}</th><td>{html.escape(source)}</td><td>{links}</td></tr>"
