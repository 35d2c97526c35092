"""Simulates fleets of processes that share limits: ``python -m benchmarks.fleet [COMMAND ...] [PATIENCE]``.

    calibrate   measures what claims cost on this machine, and writes it to results/fleet.json
    validate    compares simulations with real runs on this machine, and fails if one of them is not within 20 %
    capacity    simulates fleets, where designs end, and outages, and writes the figures into docs/capacity.md

Without a command, all of them run. The first two need a machine without other programs that are busy. They wait for it
for PATIENCE seconds, 600 by default.
"""

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

from benchmarks.fleet.calibrate import Measured, measure
from benchmarks.fleet.capacity import fleets, limits
from benchmarks.fleet.costs import KINDS, PLACE, Costs, keep, load
from benchmarks.fleet.outages import outages
from benchmarks.fleet.quiet import MAX_OTHERS, wait_until_quiet
from benchmarks.fleet.speed import Watch, watching
from benchmarks.fleet.validate import TOLERANCE, Row, Validation

PAGE = Path(__file__).parents[2] / "docs" / "capacity.md"


def calibrate(patience_s: float, speed: Watch) -> bool:
    """Measure and keep the costs. Returns whether the machine was quiet."""
    measured: dict[str, Measured] = {}
    for kind in KINDS:
        while kind not in measured or (patience_s and measured[kind].others > MAX_OTHERS):
            patience_s = wait_until_quiet(patience_s)
            measured[kind] = measure(kind, speed)
            print(
                f"{kind}: measured, while other programs used {measured[kind].others:.0%} of this machine", flush=True
            )
        keep("costs", {kind: each.costs for kind, each in measured.items()})
        keep("piece_s", speed.piece_s)
        keep("others", {kind: round(each.others, 2) for kind, each in measured.items()})
    is_quiet = all(each.others <= MAX_OTHERS for each in measured.values())
    if not is_quiet:
        print("The costs are too high: other programs used this machine. Run this again when it is quiet.")
    return is_quiet


def validate(patience_s: float, speed: Watch) -> bool:
    """Returns whether all predictions hold."""
    rows = []
    print("\n".join(_HEAD["validation"]))
    for row in Validation(load(), speed, patience_s).rows():
        print(row, flush=True)
        rows.append(row)
        keep("validation", [asdict(each) for each in rows])
    held = sum(row.holds for row in rows)
    print(f"\n{held} of {len(rows)} predictions are within {TOLERANCE:.0%}.")
    return held == len(rows)


def capacity(*_: object) -> bool:
    """Write the figures into the page."""
    costs = load()
    parts: dict[str, Iterable[str]] = {
        "costs": [*_cost_lines(costs), *_warning()],
        "validation": [*_HEAD["validation"], *map(str, _kept_rows()), *_doubts()],
        "fleets": fleets(costs),
        "limits": limits(costs),
        "outages": outages(costs),
    }
    for name, lines in parts.items():
        figures = "\n".join(lines)
        print(f"\n{figures}", flush=True)
        _write(name, figures)
    return True


_HEAD = {
    "validation": [
        "| what | predicted | measured | in single runs | ratio | within 20 % |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
}


def _kept_rows() -> list[Row]:
    return [Row(**values) for values in json.loads(PLACE.read_text()).get("validation", [])]


def _doubts() -> list[str]:
    rows = _kept_rows()
    wrong = sum(not row.holds for row in rows)
    if rows and not wrong:
        return []
    return ["", f"*{wrong} of {len(rows)} predictions are not confirmed within {TOLERANCE:.0%}.*"]


def _cost_lines(costs: dict[str, Costs]) -> list[str]:
    lines = ["| microseconds | process: one claim | of 50 | server: one claim | of 50 | of one subject |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for kind, each in costs.items():
        client, server = each.client, each.server
        steps = (client.enter, client.send, client.read, client.leave)
        figures = [sum(step(size) for step in steps) / size for size in (1, 50)]
        figures += [server.call(1) + server.record_s, server.call(50) / 50 + server.record_s, server.call(50) / 50]
        lines.append(f"| {kind} | {' | '.join(f'{figure * 1e6:.1f}' for figure in figures)} |")
    return lines


def _warning() -> list[str]:
    others = max(json.loads(PLACE.read_text())["others"].values())
    if others <= MAX_OTHERS:
        return []
    return ["", f"*Other programs used up to {others:.0%} of this machine meanwhile, so these costs are too high.*"]


def _write(name: str, figures: str) -> None:
    """Replace the figures between the comments with this name."""
    begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
    assert begin in PAGE.read_text(), f"{PAGE}: expected {begin!r}"
    before, _, rest = PAGE.read_text().partition(begin)
    after = rest.partition(end)[2]
    PAGE.write_text(f"{before}{begin}\n{figures}\n{end}{after}")


COMMANDS: dict[str, Callable[[float, Watch], bool]] = {
    "calibrate": calibrate,
    "validate": validate,
    "capacity": capacity,
}
_PATIENCE_S = 600.0


def main() -> None:
    """Run the commands that are named, or all."""
    numbers = [float(word) for word in sys.argv[1:] if word.isdecimal()]
    words = [word for word in sys.argv[1:] if not word.isdecimal()]
    for word in words:
        if word not in COMMANDS:
            raise SystemExit(f"command: expected one of {', '.join(COMMANDS)}, got {word!r}")
    piece_s = 0.0 if "calibrate" in (words or COMMANDS) else json.loads(PLACE.read_text())["piece_s"]
    with watching(piece_s) as speed:
        succeeded = [COMMANDS[word](numbers[0] if numbers else _PATIENCE_S, speed) for word in words or COMMANDS]
    raise SystemExit(not all(succeeded))


if __name__ == "__main__":
    main()
