"""Instructions per request of each app, in process and in its server: ``python -m benchmarks.bench_instructions``.

The control is the same app with two headers that are added by hand. Not counted: the start, the
first requests, and the kernel.
"""

import platform
from collections.abc import Mapping

from benchmarks.instructions import of_calls, of_request
from benchmarks.peers.apps import APPS

_OURS = ("Starlette + awx_ratelimit, headers", "Starlette + awx_ratelimit, stored key")
_BY_HAND = {"Starlette": "Starlette + two headers by hand", "Flask": "Flask + two headers by hand"}
#: The least share that two headers by hand may have of our instructions under uvicorn.
_TARGET = 0.83


def main() -> None:
    """Print the tables and the targets."""
    print(f"\n## Instructions per request, CPython {platform.python_version()}")
    _print_table("In process", dict(zip(APPS, of_calls("benchmarks.in_process:answerer", list(APPS)), strict=True)))
    # FastAPI has no control with headers.
    servers = {name: of_request(name) for name in APPS if not name.startswith("FastAPI")}
    _print_table("Under uvicorn, or in a worker of gunicorn", servers)
    print()
    for name in _OURS:
        share = servers[_BY_HAND["Starlette"]] / servers[name]
        met = "met" if share >= _TARGET else "NOT met"
        print(f"- {name}: the control has {share:.2f} of its instructions, target {_TARGET}: {met}")


def _print_table(title: str, counts: Mapping[str, int]) -> None:
    print(f"\n| {title} | instructions | added to the control |\n| --- | --- | --- |")
    for name, number in counts.items():
        control = counts.get(_BY_HAND.get(name.split()[0], ""))
        added = "" if control is None or name.endswith(("bare", "by hand")) else f"{number - control:,}"
        print(f"| {name} | {number:,} | {added} |", flush=True)


if __name__ == "__main__":
    main()
