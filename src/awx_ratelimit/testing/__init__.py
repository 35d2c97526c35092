"""For tests: a clock that stands still until it is told, and the contract kits that backends and adapters inherit.

The clock needs nothing; the kits and the fixture need pytest, and are imported when they are asked for.
"""

import pkgutil
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from awx_ratelimit.testing.clock import ManualClock

if TYPE_CHECKING:
    from awx_ratelimit.testing.adapter_contract import AdapterContract
    from awx_ratelimit.testing.backend_contract import BackendContract
    from awx_ratelimit.testing.frozen import frozen, rate_limits

__all__ = ["AdapterContract", "BackendContract", "ManualClock", "frozen", "rate_limits"]

_HOMES = {
    "AdapterContract": "adapter_contract",
    "BackendContract": "backend_contract",
    "frozen": "frozen",
    "rate_limits": "frozen",
}

_pytest = sys.modules.get("pytest")
if _pytest is not None:
    # A failure in a kit then shows the values that were compared, as one in your own tests does.
    _kits = {f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)}
    _pytest.register_assert_rewrite(*_kits.difference(sys.modules))


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        home = import_module(f"{__name__}.{_HOMES[name]}")
    except ModuleNotFoundError as error:
        raise ImportError(f"{name} needs {error.name}; install it with: pip install {error.name}") from error
    return getattr(home, name)
