"""Simulates fleets of processes that share limits: ``python -m benchmarks.fleet [calibrate] [validate]``.

    calibrate   measures what claims cost on this machine, and writes it to results/fleet.json
    validate    compares simulations with real runs on this machine, which must not be busy. Fails if a figure is not
                within 20 %, or could not be measured

Without arguments, both run.
"""

import sys
from collections.abc import Callable

from benchmarks.fleet.calibrate import measure
from benchmarks.fleet.costs import KINDS, Linear, keep, load
from benchmarks.fleet.validate import TOLERANCE, as_json, validate


def calibrate() -> bool:
    """Measure and keep the costs."""
    print("\n| microseconds of processor time | process, one claim | of 50 | server, one claim | of 50 |")
    print("| --- | --- | --- | --- | --- |")
    costs = {}
    for kind in KINDS:
        measured = costs[kind] = measure(kind)
        client = measured.client
        steps = (client.enter, client.send, client.read, client.leave)
        one, many = (sum(step(size) for step in steps) / size for size in (1, 50))
        print(f"| {kind} | {one * 1e6:.1f} | {many * 1e6:.1f} | {_each(measured.server.call)} |", flush=True)
    keep("costs", costs)
    return True


def _each(call: Linear) -> str:
    return " | ".join(f"{call(size) / size * 1e6:.1f}" for size in (1, 50))


def check() -> bool:
    """Whether all predictions hold."""
    rows = validate(load())
    keep("validation", as_json(rows))
    wrong = [row for row in rows if not row.holds]
    unknown = sum(row.measured is None for row in wrong)
    print(f"\n{len(rows) - len(wrong)} of {len(rows)} predictions are within {TOLERANCE:.0%}.")
    if unknown:
        print(f"{unknown} could not be measured: other programs used this machine. Run this again when it is quiet.")
    return not wrong


COMMANDS: dict[str, Callable[[], bool]] = {"calibrate": calibrate, "validate": check}


def main() -> None:
    """Run the commands that are named, or all."""
    unknown = [word for word in sys.argv[1:] if word not in COMMANDS]
    if unknown:
        raise SystemExit(f"expected one of {', '.join(COMMANDS)}, got {unknown[0]!r}")
    succeeded = [COMMANDS[word]() for word in sys.argv[1:] or COMMANDS]
    raise SystemExit(not all(succeeded))


if __name__ == "__main__":
    main()
