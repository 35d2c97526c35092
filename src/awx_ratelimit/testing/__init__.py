"""Tools for tests: a manual clock, frozen limits for your app, and contract kits for your own backends and adapters.

`ManualClock` needs no other package. The kits and fixtures need pytest; they are imported on first use.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from awx_ratelimit.testing.clock import ManualClock

if TYPE_CHECKING:
    from awx_ratelimit.testing.adapter_contract import AdapterContract
    from awx_ratelimit.testing.backend_contract import BackendContract
    from awx_ratelimit.testing.frozen_limits import frozen, rate_limits

__all__ = ["AdapterContract", "BackendContract", "ManualClock", "frozen", "rate_limits"]

_MODULES = {
    "AdapterContract": "adapter_contract",
    "BackendContract": "backend_contract",
    "frozen": "frozen_limits",
    "rate_limits": "frozen_limits",
}
#: Folders and modules with assertions. Pytest rewrites them, so that a failed assertion shows the compared values.
_WITH_ASSERTIONS = ("adapter_laws", "backend_laws", "drivers")

_pytest = sys.modules.get("pytest")
if _pytest is not None:
    _names = {f"{__name__}.{name}" for name in _WITH_ASSERTIONS}
    _pytest.register_assert_rewrite(*_names.difference(sys.modules))


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"{__name__}.{_MODULES[name]}")
    except ModuleNotFoundError as error:
        raise ImportError(f"{name} needs {error.name}; install it with: pip install {error.name}") from error
    return getattr(module, name)
