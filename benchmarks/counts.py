"""The counted instructions of requests, as `bench_instructions` writes them to `results/instructions.json`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

RESULTS: Final = Path(__file__).parent / "results" / "instructions.json"
#: The two tables.
IN_PROCESS: Final = "In process"
IN_SERVERS: Final = "Under uvicorn, or in a worker of gunicorn"
#: The control of each framework.
BY_HAND: Final = {name: f"{name} + two headers by hand" for name in ("Starlette", "FastAPI", "Flask", "Django", "DRF")}


def added(name: str, counts: Mapping[str, int]) -> int:
    """The instructions that the middleware of an app adds to the same app with two headers by hand."""
    return counts[name] - counts[BY_HAND[name.split(maxsplit=1)[0].rstrip(",")]]


def counted_on(results: Mapping[str, Any]) -> str:
    """When the counts were made, which may be on another day than the other figures."""
    return f"Counted on {results['date']}, CPython {results['python']}, all apps in one run."


def is_control(name: str) -> bool:
    """Whether an app has no rate limiter."""
    return name.endswith(("bare", "by hand"))
