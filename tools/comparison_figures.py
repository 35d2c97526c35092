"""The figures of docs/comparison.md and docs/performance.md, from the last results of `make bench`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.counts import IN_PROCESS, IN_SERVERS, RESULTS, added, counted_on, is_control
from tools.page_parts import anchor

MEASURED = Path(__file__).parent.parent / "benchmarks/results/measured.md"
_NOT_YET = "Not in the last run; `make bench` measures it."
#: The tables of the results: their headings there, and the titles here.
_TABLES = {
    "One decision in memory, one hot key": "One decision in memory",
    "What a middleware adds to one request": "What a middleware adds to one request, in microseconds",
    "Peers, 100 tasks": "Decisions on Redis, 100 tasks at once",
}


class _Figure(NamedTuple):
    """A cell of the results, in the words of docs/performance.md."""

    what: str
    heading: str
    #: The beginning of its line there, and the number of the cell.
    row: str
    cell: int
    unit: str


_FIGURES = [
    _Figure("a decision in memory and its release", "One decision in memory, one hot key", "awx_ratelimit", 1, "ns"),
    _Figure("the same among a million subjects", "Flat in subjects and in limits", "1,000,000 known", 1, "ns"),
    _Figure("what a gate adds to an ASGI app", "What a middleware adds to one request", "Starlette + awx", 2, "µs"),
    _Figure("what a gate adds to a WSGI app", "What a middleware adds to one request", "Flask + awx", 2, "µs"),
    _Figure("a decision in a host's file, the median", "Processes of one host, one key", "HostBackend | 1 ", 3, "µs"),
    _Figure("a decision on Redis by one task, the median", "Tasks", "1 | awx_ratelimit", 3, "µs"),
    _Figure("a subject on Redis, with 2 rates and an open lease", "Redis", "2 rates and an open lease", 1, ""),
]


def costs() -> str:
    """What a limit costs by the last run."""
    text = MEASURED.read_text()
    rows = [f"| {each.what} | {_cell(text, each)} | {_link(each.heading)} |" for each in _FIGURES]
    heading = "A million subjects"
    each = text.partition(f"# {heading}\n\n")[2].partition(" each,")[0]
    rows.append(f"| an idle subject in memory, without its name | {each} | {_link(heading)} |")
    return "\n".join(["| what | costs | from |", "| --- | --- | --- |", *rows])


def _cell(text: str, figure: _Figure) -> str:
    line = next(line for line in _table(text, figure.heading).splitlines() if line.startswith(f"| {figure.row}"))
    return f"{line.split(' | ')[figure.cell].strip(' |')} {figure.unit}".strip()


def _link(heading: str) -> str:
    return f"[{heading}](../benchmarks/results/measured.md#{anchor(heading)})"


def speed() -> str:
    """The tables of the last run."""
    text = MEASURED.read_text()
    first = text.split("\n\n")[1].split(" `make bench`")[0]
    found = [f"### {title}\n\n{_table(text, heading)}" for heading, title in _TABLES.items()]
    return "\n\n".join([f"From [measured.md](../benchmarks/results/measured.md): {first}", *found, _instructions()])


def _table(text: str, heading: str) -> str:
    _, _, rest = text.partition(f"# {heading}\n\n")
    return next((block.strip() for block in rest.split("\n\n") if block.startswith("|")), _NOT_YET)


def _instructions() -> str:
    title = "### Instructions that a rate limiter adds to a request"
    if not RESULTS.exists():
        return f"{title}\n\n{_NOT_YET}"
    result = json.loads(RESULTS.read_text())
    return "\n".join([title, "", counted_on(result), "", *_counted(result["counts"])])


def _counted(counts: dict[str, dict[str, int]]) -> Iterator[str]:
    yield "| app | in process | in a server |"
    yield "| --- | --- | --- |"
    for name in counts[IN_PROCESS]:
        if not is_control(name):
            yield f"| {name} | {added(name, counts[IN_PROCESS]):,} | {added(name, counts[IN_SERVERS]):,} |"
