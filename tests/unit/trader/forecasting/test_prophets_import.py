"""Prophet is imported without Matplotlib, which only its plots need."""

import subprocess

from scripts import ROOT
from tests.warm.python import python_after

IMPORT = "import sys\nfrom trader.forecasting.prophet import quiet_prophet\n"


def run(script: str) -> str:
    done = subprocess.run(
        [*python_after("pandas", "holidays", "cmdstanpy"), "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": "function:.", "MPLBACKEND": "agg"},
        cwd=ROOT,
    )
    assert not done.stderr
    return done.stdout


def test_a_forecast_does_not_import_matplotlib() -> None:
    assert (
        run(f"{IMPORT}quiet_prophet()\nprint('prophet' in sys.modules, 'matplotlib' in sys.modules)") == "True False\n"
    )


def test_matplotlib_can_be_imported_afterwards() -> None:
    assert run(f"{IMPORT}quiet_prophet()\nimport matplotlib.figure\nprint('done')") == "done\n"


def test_with_matplotlib_prophets_plots_work_as_always() -> None:
    found = run(f"import matplotlib\n{IMPORT}quiet_prophet()\nimport prophet.plot\nprint(prophet.plot.plt.__name__)")
    assert found == "matplotlib.pyplot\n"


def test_another_thread_finds_matplotlib_meanwhile() -> None:
    script = (
        f"{IMPORT}from threading import Thread\nfrom trader.forecasting import prophet\n"
        "def other():\n    import matplotlib.figure\n    print('found')\n"
        "with prophet._without_plots():\n    thread = Thread(target=other)\n    thread.start()\n    thread.join()\n"
    )
    assert run(script) == "found\n"
