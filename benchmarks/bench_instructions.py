"""Instructions per request of each app, in process and in its server: ``python -m benchmarks.bench_instructions``.

The control is the same app with two headers that are added by hand. Not counted: the start, the first requests, and the
kernel. Stored keys are verified without what their threads do twice a second and every 10 seconds, because cachegrind
makes the process 50 times slower, and it would count 50 times as often. The counts are also written to
`results/instructions.json`.
"""

import json
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from benchmarks.counts import BY_HAND, IN_PROCESS, IN_SERVERS, RESULTS, added, counted_on, is_control
from benchmarks.instructions import of_calls, of_request
from benchmarks.peers.apps import APPS

_STATIC, _STORED = "Starlette + awx_ratelimit, headers", "Starlette + awx_ratelimit, stored key"
_FLASK: Final = "Flask + awx_ratelimit, headers"
#: The least share that two headers by hand may have of our instructions under uvicorn.
_SHARE: Final = 0.83
#: What gunicorn's requests were added before the short way, and the part of it that may be left.
_WSGI_BEFORE, _WSGI_SHARE = 107_000, 0.667
#: Ours may add this part of what these peers add.
_SEVENTH: Final = 1 / 7
_SLOW_PEERS: Final = (
    (_STATIC, "Starlette + slowapi ASGI, headers"),
    (_STATIC, "Starlette + slowapi BaseHTTP, headers"),
    (_FLASK, "Flask + Flask-Limiter, headers"),
)


def main() -> None:
    """Count, print the tables and the targets, and write the counts."""
    counts = {
        IN_PROCESS: dict(zip(APPS, of_calls("benchmarks.in_process:answerer", list(APPS)), strict=True)),
        IN_SERVERS: {name: of_request(name) for name in APPS},
    }
    run = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "python": platform.python_version()}
    RESULTS.write_text(json.dumps({**run, "counts": counts}, indent=1) + "\n")
    print(f"\n## Instructions per request, CPython {run['python']}\n\n{counted_on(run)}")
    for title, numbers in counts.items():
        _print_table(title, numbers)
    print()
    _print_targets(counts[IN_SERVERS])


def _print_table(title: str, counts: Mapping[str, int]) -> None:
    print(f"\n| {title} | instructions | added to the control |\n| --- | --- | --- |")
    for name, number in counts.items():
        print(f"| {name} | {number:,} | {'' if is_control(name) else f'{added(name, counts):,}'} |", flush=True)


def _print_targets(counts: Mapping[str, int]) -> None:
    for name in (_STATIC, _STORED):
        share = counts[BY_HAND["Starlette"]] / counts[name]
        print(f"- {name}: the control has {share:.2f} of its instructions, target {_SHARE}: {_met(share >= _SHARE)}")
    share = added(_FLASK, counts) / _WSGI_BEFORE
    print(f"- {_FLASK}: adds {share:.2f} of what it did before, target {_WSGI_SHARE}: {_met(share <= _WSGI_SHARE)}")
    for ours, peer in _SLOW_PEERS:
        share = added(ours, counts) / added(peer, counts)
        print(f"- {ours}: adds {share:.2f} of what {peer} adds, target {_SEVENTH:.2f}: {_met(share <= _SEVENTH)}")


def _met(is_met: bool) -> str:
    return "met" if is_met else "NOT met"


if __name__ == "__main__":
    main()
