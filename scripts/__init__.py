"""The commands that make calls."""

import signal
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
"""The repository."""

if sys.argv[0] == "-m":  # a command is being loaded: Ctrl-C during the seconds of imports ends it without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)
