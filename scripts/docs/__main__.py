"""`make docs`: generate the reference from the code, and build the documentation site from docs/.

A broken link, a missing page or anchor, and a page in no list of contents are errors. With CHECK=1 nothing is written:
the exit code is 1 if a generated page is not up to date. The backtest in the reader's browser is part of the site; its
parts come from npm and PyPI. BROWSER=0 leaves it out.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts import ROOT, console
from scripts.console import CommandError
from scripts.docs import browser, links, reference
from scripts.files import OUT, SITE

DOCS = ROOT / "docs"


def main() -> None:
    """Generate the reference and build the site, or check that the reference is up to date."""
    with console.plain_errors():
        stale = reference.stale_pages()
        if console.flag("CHECK"):
            for path in stale:
                console.OUT.print(f"{path.relative_to(ROOT)} is not up to date: run make docs")
            sys.exit(console.FAILED if stale else console.USABLE)
        for path, text in stale.items():
            path.write_text(text, encoding="utf-8")
            console.OUT.print(f"{path.relative_to(ROOT)} written")
        site = Path(os.environ.get("OUT") or OUT) / SITE
        has_browser = console.flag("BROWSER", default=True)
        problems = list(build(site, has_browser=has_browser))
        if has_browser:
            browser.assemble(site)
        problems += links.broken_links(site)
        for problem in problems:
            console.ERR.print(problem, style="red", soft_wrap=True)
        if problems:
            sys.exit(console.FAILED)
        console.OUT.print(f"Site: {site / 'index.html'}")


def build(site: Path, *, has_browser: bool = False) -> Sequence[str]:
    """Build the site into a folder, which is emptied first; return Sphinx's warnings. Raises CommandError.

    If `has_browser`, the first page has the form of the backtest in the browser, whose parts must then be assembled.
    """
    shutil.rmtree(site, ignore_errors=True)
    options = ["--nitpicky", "--fresh-env", "--quiet", "--no-color", *(["--tag", "browser"] if has_browser else [])]
    made = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, "--conf-dir", Path(__file__).parent, DOCS, site],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    shutil.rmtree(site / ".doctrees", ignore_errors=True)
    if made.returncode:
        raise CommandError(f"Sphinx failed:\n{made.stderr.strip()}")
    return [line.replace(f"{ROOT}/", "") for line in made.stderr.splitlines() if line.strip()]


if __name__ == "__main__":
    main()
