"""`make docs`: generate the reference from the code, and build the documentation site from docs/.

A broken link, a missing page or anchor, and a page in no list of contents are errors. With CHECK=1 nothing is written:
the exit code is 1 if a generated page is not up to date.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from scripts import ROOT, console
from scripts.docs import links, reference

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
        site = Path(os.environ.get("OUT") or "out") / "site"
        build(site)
        broken = links.broken_links(site)
        for each in broken:
            console.ERR.print(each, style="red", soft_wrap=True)
        if broken:
            sys.exit(console.FAILED)
        console.OUT.print(f"Site: {site / 'index.html'}")


def build(site: Path) -> None:
    """Build the site into a folder, which is emptied first. Exits with FAILED if Sphinx has a warning."""
    shutil.rmtree(site, ignore_errors=True)
    options = ["--fail-on-warning", "--keep-going", "--nitpicky", "--fresh-env", "--quiet"]
    made = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, "--conf-dir", Path(__file__).parent, DOCS, site],
        cwd=ROOT,
        check=False,
    )
    shutil.rmtree(site / ".doctrees", ignore_errors=True)
    if made.returncode:
        sys.exit(console.FAILED)


if __name__ == "__main__":
    main()
