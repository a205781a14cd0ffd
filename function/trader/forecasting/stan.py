"""Prophet's compiled Stan model, called directly: the bits are those that cmdstanpy gives, a tenth of a fit sooner."""

import json
import subprocess
from collections import OrderedDict
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from prophet.models import CmdStanPyBackend, IStanBackend

NEWTON_BELOW_BARS = 100
MAX_ITERATIONS = 10_000
"""Both are Prophet's own: with fewer bars Stan's L-BFGS is the less reliable one of its optimizers."""


class Optimizer(IStanBackend):
    """What Prophet finds its parameters with; a fit that ends leaves nothing on the disk."""

    @staticmethod
    def get_type() -> str:
        """Prophet's name for it."""
        return "CMDSTANPY"

    def load_model(self) -> str:
        """The path of the program."""
        return str(files("prophet") / "stan_model" / "prophet_model.bin")

    def fit(
        self,
        stan_init: dict[str, float],
        stan_data: dict[str, Any],
        **kwargs: Any,  # noqa: ANN401 as Prophet hands over what its own fit() was given
    ) -> OrderedDict[str, np.ndarray[Any, Any]]:
        """The most probable parameters, each as one row. `timeout` is in seconds.

        Raises RuntimeError with Stan's own words if it finds none. A fault of the machine is an OSError: no room for
        the files, Stan killed, or TimeoutError, on which Stan is ended.
        """
        init, data = CmdStanPyBackend.prepare_data(stan_init, stan_data)
        with TemporaryDirectory(prefix="stan-") as name:
            folder = Path(name)
            (folder / "init.json").write_text(json.dumps(init))
            (folder / "data.json").write_text(json.dumps(data))
            if stan_data["T"] < NEWTON_BELOW_BARS:
                return self._optimize(folder, "newton", kwargs["timeout"])
            try:
                return self._optimize(folder, "lbfgs", kwargs["timeout"])
            except RuntimeError:  # as Prophet does
                return self._optimize(folder, "newton", kwargs["timeout"])

    def sampling(self, *_args: object, **_kwargs: object) -> dict[str, Any]:
        """Not for a bot that decides every 15 minutes."""
        raise NotImplementedError("mcmc_samples is not used")

    def _optimize(self, folder: Path, algorithm: str, timeout_s: float) -> OrderedDict[str, np.ndarray[Any, Any]]:
        result = folder / "result.csv"
        command = [
            *(self.model, "data", f"file={folder / 'data.json'}", f"init={folder / 'init.json'}"),
            *("output", f"file={result}", "refresh=0"),
            *("method=optimize", f"algorithm={algorithm}", f"iter={MAX_ITERATIONS}"),
        ]
        try:
            ended = subprocess.run(  # noqa: S603 our own words
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
                start_new_session=True,  # Ctrl-C is for the one who waits, not for Stan
            )
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"Stan did not end within {timeout_s} s") from None
        if ended.returncode < 0:  # no reason to ask the other optimizer, which comes to other numbers
            raise OSError(f"Stan was killed by signal {-ended.returncode}")
        if ended.returncode:
            raise RuntimeError(f"Stan ended with {ended.returncode}: {(ended.stderr or ended.stdout).strip()[-500:]}")
        lines = [line for line in result.read_text().splitlines(keepends=True) if not line.startswith("#")]
        commas = {line.count(",") for line in lines}
        if len(lines) != 2 or len(commas) != 1 or not lines[1].endswith("\n"):  # Stan does not mind a full disk
            raise OSError(f"Stan's result was cut off; is {folder.parent} full?")
        names, values = (line.rstrip("\n").split(",") for line in lines)
        parameters = CmdStanPyBackend.stan_to_dict_numpy(names, np.array([float(text) for text in values]))
        return OrderedDict((name, row.reshape(1, -1)) for name, row in parameters.items())
