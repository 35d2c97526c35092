"""Print the ratios of one run and write them to a file: ``python -m benchmarks.report RESULT.json FILE.md``."""

import json
import platform
import sys
from pathlib import Path
from typing import Any

from benchmarks.peers.apps import APPS
from benchmarks.peers.deciders import DECIDERS

OURS = next(iter(DECIDERS))


def main(source: str, target: str) -> None:
    """Read pytest-benchmark's JSON.

    The best of many rounds counts: a virtual machine may run at half of its speed for seconds, and other programs
    interrupt some rounds.
    """
    run = json.loads(Path(source).read_text())
    best = {(bench["group"], _name(bench)): bench["stats"]["min"] * 1e9 for bench in run["benchmarks"]}
    lines = [
        "# Measured",
        "",
        f"The best rounds of one run on {run['datetime'][:10]}, CPython {platform.python_version()}, {_machine(run)}. "
        "`make bench` makes this file anew; only the ratios mean something.",
        *_deciding(best),
        *_flatness(best),
        *_middleware(best),
    ]
    Path(target).write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def _machine(run: dict[str, Any]) -> str:
    cpu = run["machine_info"]["cpu"]
    return f"{cpu['count']} cores of {cpu.get('brand_raw', run['machine_info']['machine'])}"


def _name(bench: dict[str, Any]) -> str:
    return str(next(iter((bench["params"] or {"": "two empty calls"}).values())))


def _deciding(best: dict[tuple[str, str], float]) -> list[str]:
    ours = best["decide", OURS]
    lines = ["", "## One decision in memory, one hot key", "", "| what | ns | times ours |", "| --- | --- | --- |"]
    for (group, name), time_ns in best.items():
        if group == "decide":
            lines.append(f"| {name} | {time_ns:,.0f} | {time_ns / ours:.2f} |")
    fixed, bucket = best["decide", "limits fixed window x2"], best["decide", "token-bucket x2, no lock, no slot"]
    verdicts = (
        f"- at least 4x faster than limits' fixed window x2: {fixed / ours:.2f}x, {_met(fixed / ours >= 4)}",
        f"- at most 1.3x the time of token-bucket x2: {ours / bucket:.2f}x, {_met(ours / bucket <= 1.3)}",
    )
    return [*lines, "", "Targets:", *verdicts]


def _flatness(best: dict[tuple[str, str], float]) -> list[str]:
    lines = ["", "## Flat in subjects and in limits", "", "| what | ns |", "| --- | --- |"]
    for (group, name), time_ns in best.items():
        if group in ("subjects", "limits"):
            lines.append(
                f"| {int(name):,} {'known subjects' if group == 'subjects' else 'per minute'} | {time_ns:,.0f} |"
            )
    return lines


def _middleware(best: dict[tuple[str, str], float]) -> list[str]:
    lines = ["", "## What a middleware adds to one request", "", "| app | us | us added |", "| --- | --- | --- |"]
    controls = {
        name: next(bare for bare, (made, _) in APPS.items() if made is control) for name, (_, control) in APPS.items()
    }
    added = {name: (best["request", name] - best["request", controls[name]]) / 1000 for name in APPS}
    for name, us in added.items():
        lines.append(
            f"| {name} | {best['request', name] / 1000:.1f} | {us:.1f} |"
            if us
            else f"| {name} | {best['request', name] / 1000:.1f} | |"
        )
    asgi, wsgi = added["Starlette + awx_ratelimit, headers"], added["Flask + awx_ratelimit, headers"]
    stored = added["Starlette + awx_ratelimit, stored key"] - asgi
    verdicts = (
        f"- at most 10 us in ASGI: {asgi:.1f}, {_met(asgi <= 10)}",
        f"- at most 12 us in WSGI: {wsgi:.1f}, {_met(wsgi <= 12)}",
        f"- a stored key at most 3 us beside one that is known beforehand: {stored:.1f}, {_met(stored <= 3)}",
        f"- less than asgi-ratelimit: {asgi:.1f} to {added['Starlette + asgi-ratelimit']:.1f}, "
        f"{_met(asgi < added['Starlette + asgi-ratelimit'])}",
        f"- 10x less than slowapi and Flask-Limiter: {added['Starlette + slowapi ASGI, headers'] / asgi:.1f}x and "
        f"{added['Flask + Flask-Limiter, headers'] / wsgi:.1f}x",
    )
    return [*lines, "", "Targets:", *verdicts]


def _met(held: bool) -> str:
    return "met" if held else "NOT met"


if __name__ == "__main__":
    main(*sys.argv[1:])
