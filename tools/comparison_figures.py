"""The figures of docs/comparison.md, from the last results of `make bench`."""

import json
from collections.abc import Iterator
from pathlib import Path

from benchmarks.counts import IN_PROCESS, IN_SERVERS, RESULTS, added, is_control

MEASURED = Path(__file__).parent.parent / "benchmarks/results/measured.md"
_NOT_YET = "Not in the last run; `make bench` measures it."
#: The tables of the results: their headings there, and the titles here.
_TABLES = {
    "One decision in memory, one hot key": "One decision in memory",
    "What a middleware adds to one request": "What a middleware adds to one request, in microseconds",
    "Peers, 100 tasks": "Decisions on Redis, 100 tasks at once",
}


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
    return "\n".join([title, "", f"CPython {result['python']}.", "", *_counted(result["counts"])])


def _counted(counts: dict[str, dict[str, int]]) -> Iterator[str]:
    yield "| app | in process | in a server |"
    yield "| --- | --- | --- |"
    for name in counts[IN_PROCESS]:
        if not is_control(name):
            yield f"| {name} | {added(name, counts[IN_PROCESS]):,} | {added(name, counts[IN_SERVERS]):,} |"
