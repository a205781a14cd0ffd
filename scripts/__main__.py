"""The command line: `prophet-trader run --mode dry-run`, or `python -m scripts run --mode dry-run` in a clone."""

import signal
import sys
from pathlib import Path

from scripts import ROOT


def main() -> None:
    """Run the command that the command line names."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the seconds of imports ends it without a traceback
    if (function := str(ROOT / "function")) not in sys.path and Path(function).is_dir():
        sys.path.insert(0, function)  # a clone is not installed
    from scripts import console
    from scripts.command import run_program

    console.survive_closed_pipes()
    run_program()


if __name__ == "__main__":
    main()
