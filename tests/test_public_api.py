"""The public names, as the documentation fixes them."""

import subprocess
import sys

import pytest

import awx_ratelimit

FIXED = [
    "Rate",
    "Concurrency",
    "Plan",
    "PlanTable",
    "STARTER",
    "GROWTH",
    "Claim",
    "Decision",
    "Usage",
    "Lease",
    "Limiter",
    "AsyncLimiter",
    "MemoryBackend",
    "Gate",
    "AsyncGate",
    "Caller",
    "Rule",
    "StaticKeys",
    "StoredKeys",
    "AwxRateLimitError",
    "InvalidLimit",
    "ImpossibleClaim",
    "BackendUnavailable",
    "RateLimited",
]
LAZY = [
    "HostBackend",
    "RedisBackend",
    "AsyncRedisBackend",
    "PostgresBackend",
    "AsyncPostgresBackend",
    "GuardedBackend",
    "AsyncGuardedBackend",
    "open_backend",
    "open_async_backend",
    "StoredKeys",
]


def test_documented_names() -> None:
    """Every name that the documentation imports exists."""
    assert set(FIXED) <= set(awx_ratelimit.__all__)


def test_all() -> None:
    """`__all__` is sorted, and every name in it exists."""
    names = awx_ratelimit.__all__

    assert sorted(names, key=lambda name: (not name.isupper(), name)) == names
    assert [n for n in names if not hasattr(awx_ratelimit, n)] == []


def test_manual_clock_needs_no_pytest() -> None:
    """`ManualClock` works without pytest; names that need it raise an error with the command that installs it."""
    code = (
        "import sys; sys.modules['pytest'] = None\nfrom awx_ratelimit.testing import ManualClock\n"
        "try:\n    from awx_ratelimit.testing import BackendContract\nexcept ImportError as error:\n    print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30).stdout

    assert said == "BackendContract needs pytest; install it with: pip install pytest\n"


def test_import_loads_no_extra() -> None:
    """`import awx_ratelimit` loads no third-party package and no event loop.

    The functions of compiled modules are in one more module, whose name ends in ``__mypyc``.
    """
    code = (
        "import sys; before = set(sys.modules); import awx_ratelimit, awx_ratelimit.adapters.starlette, "
        "awx_ratelimit.adapters.werkzeug; loaded = {name.split('.')[0] for name in set(sys.modules) - before}; "
        "print(sorted(name for name in loaded - set(sys.stdlib_module_names) if not name.endswith('__mypyc')))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30).stdout

    assert loaded.strip() == "['awx_ratelimit']"


@pytest.mark.parametrize("name", LAZY)
def test_lazy_names(name: str) -> None:
    """Backends that need an extra are loaded on first use."""
    assert getattr(awx_ratelimit, name).__name__ == name
    assert name in dir(awx_ratelimit)


def test_missing_extra() -> None:
    """Without an extra its names raise ImportError with the command that installs it; `import *` works."""
    code = (
        "import sys; sys.modules['redis'] = None\nfrom awx_ratelimit import *\nimport awx_ratelimit\n"
        "assert open_backend('memory://')\n"
        "for name in ('RedisBackend', 'AsyncRedisBackend'):\n"
        "    try:\n        getattr(awx_ratelimit, name)\n    except ImportError as error:\n        print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30).stdout

    assert said == "the Redis backend needs redis; install it with: pip install 'awx-ratelimit[redis]'\n" * 2


def test_help_without_an_extra() -> None:
    """`help` and other tools that load every name of `dir` work without the extras."""
    code = (
        "import sys; sys.modules['redis'] = None\nimport inspect, pydoc, awx_ratelimit\n"
        "names = dict(inspect.getmembers(awx_ratelimit))\n"
        "print('GuardedBackend' in names, 'RedisBackend' in names, bool(pydoc.render_doc(awx_ratelimit)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30).stdout

    assert said == "True False True\n"


def test_unknown_name() -> None:
    """An unknown name raises an ordinary AttributeError."""
    with pytest.raises(AttributeError, match="module 'awx_ratelimit' has no attribute 'Limitter'"):
        getattr(awx_ratelimit, "Limitter")  # noqa: B009
