"""The names that users write, as api.md fixes them."""

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
]
LAZY = [
    "HostBackend",
    "RedisBackend",
    "AsyncRedisBackend",
    "GuardedBackend",
    "AsyncGuardedBackend",
    "open_backend",
    "open_async_backend",
    "StoredKeys",
]


def test_every_fixed_name_is_exported() -> None:
    """The names that the documentation imports exist."""
    assert set(FIXED) <= set(awx_ratelimit.__all__)


def test_all_is_sorted_and_true() -> None:
    """`__all__` is in order, and names only what exists."""
    names = awx_ratelimit.__all__

    assert sorted(names, key=lambda name: (not name.isupper(), name)) == names
    assert [n for n in names if not hasattr(awx_ratelimit, n)] == []


def test_the_clock_of_tests_needs_no_test_runner() -> None:
    """`ManualClock` comes without pytest; what needs it says so, with the line that installs it."""
    code = (
        "import sys; sys.modules['pytest'] = None\nfrom awx_ratelimit.testing import ManualClock\n"
        "try:\n    from awx_ratelimit.testing import BackendContract\nexcept ImportError as error:\n    print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30).stdout

    assert said == "BackendContract needs pytest; install it with: pip install pytest\n"


def test_the_base_imports_no_extra() -> None:
    """`import awx_ratelimit` loads no third-party package at all, and no event loop."""
    code = (
        "import sys; before = set(sys.modules); import awx_ratelimit, awx_ratelimit.adapters.starlette, "
        "awx_ratelimit.adapters.werkzeug; print(sorted({name.split('.')[0] for name in set(sys.modules) - before} - "
        "set(sys.stdlib_module_names)))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30).stdout

    assert loaded.strip() == "['awx_ratelimit']"


@pytest.mark.parametrize("name", LAZY)
def test_a_name_of_an_extra_is_loaded_on_first_use(name: str) -> None:
    """Backends of extras come from the top of the package too."""
    assert getattr(awx_ratelimit, name).__name__ == name
    assert name in dir(awx_ratelimit)


def test_a_missing_extra_is_named_with_the_line_that_installs_it() -> None:
    """Without the packages of an extra, its names raise ImportError; `import *` and `dir()` work."""
    code = (
        "import sys; sys.modules['redis'] = None\nfrom awx_ratelimit import *\nimport awx_ratelimit\n"
        "assert open_backend('memory://') and 'RedisBackend' in dir(awx_ratelimit)\n"
        "for name in ('RedisBackend', 'AsyncRedisBackend'):\n"
        "    try:\n        getattr(awx_ratelimit, name)\n    except ImportError as error:\n        print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30).stdout

    assert said == "the Redis backend needs redis; install it with: pip install 'awx-ratelimit[redis]'\n" * 2


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    """The lazy names hide no mistake."""
    with pytest.raises(AttributeError, match="module 'awx_ratelimit' has no attribute 'Limitter'"):
        getattr(awx_ratelimit, "Limitter")  # noqa: B009
