"""The commands that make calls."""

import gc
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
"""The repository."""

if sys.argv[0] == "-m":  # a command is being loaded: Ctrl-C during the seconds of imports ends it without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.orig_argv[1:3] in (["-m", "scripts"], ["-m", "scripts.make"]):
        gc.disable()  # imports leave no garbage, and a search for it would take a fifth of their time; see _run
