"""empyrical, imported without SciPy and yfinance, which take over a second and which a browser does not have.

Only figures that a backtest does not show need them. SciPy is imported when one of its functions is called.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType

__all__ = ["empyrical"]


def _stand_in(name: str) -> ModuleType:
    """Return a module whose functions are those of another one, which is imported when one of them is called."""
    module = ModuleType(name)

    def find(function: str) -> Callable[..., object]:
        return lambda *args, **options: getattr(import_module(name), function)(*args, **options)

    module.__getattr__ = find  # type: ignore[method-assign] # PEP 562
    return module


def _import_empyrical() -> ModuleType:
    package = ModuleType("scipy")
    for name in ("optimize", "stats"):
        setattr(package, name, _stand_in(f"scipy.{name}"))
    stand_ins = {"scipy": package, "yfinance": None}  # None: its import fails, and empyrical goes without
    others = {name: sys.modules[name] for name in stand_ins if name in sys.modules}
    sys.modules.update(stand_ins)  # type: ignore[arg-type] # None is allowed
    try:
        return import_module("empyrical")
    finally:
        for name in stand_ins:
            del sys.modules[name]
        sys.modules.update(others)


empyrical = _import_empyrical()
