import os
import sys

# Tests start hundreds of processes that import the same modules, so these are compiled once whatever the shell says.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
