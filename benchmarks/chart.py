"""Draws what each rate limiter adds to a request, from the last counts: ``python -m benchmarks.chart``.

It reads `results/instructions.json`, which `bench_instructions` writes, and writes `docs/images/instructions.svg`. The
chart follows the colour scheme of the reader, light or dark.
"""

import json
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.counts import IN_SERVERS, RESULTS, added, is_control

TARGET: Final = Path(__file__).parent.parent / "docs" / "images" / "instructions.svg"
_GROUPS: Final = {
    "Starlette": "Starlette under uvicorn",
    "FastAPI": "FastAPI under uvicorn",
    "Flask": "Flask in a worker of gunicorn",
    "Django": "Django in a worker of gunicorn",
    "DRF": "Django REST framework in a worker of gunicorn",
}
_WIDTH, _LABELS, _VALUES = 760, 250, 96
_TITLE_HEIGHT, _GROUP_HEIGHT, _ROW_HEIGHT, _BAR_HEIGHT, _FOOT_HEIGHT = 66, 40, 30, 18, 34
_STYLE: Final = """
  text { font: 14px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2933; }
  .title { font-size: 17px; font-weight: 600; }
  .group { font-weight: 600; }
  .note { font-size: 13px; fill: #52606d; }
  .value { font-variant-numeric: tabular-nums; }
  .ours { font-weight: 600; }
  .bar { fill: #b8c1cc; }
  .bar.ours { fill: #2563c9; }
  .axis { stroke: #cbd2d9; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e4e7eb; }
    .note { fill: #9aa5b1; }
    .bar { fill: #52606d; }
    .bar.ours { fill: #6ea8ff; }
    .axis { stroke: #3e4c59; }
  }
"""


class Bar(NamedTuple):
    """One rate limiter: its name and the instructions that it adds."""

    name: str
    number: int

    @property
    def is_ours(self) -> bool:
        """Whether it is this library."""
        return self.name.startswith("awx_ratelimit")


def main() -> None:
    """Read the counts and write the chart."""
    results = json.loads(RESULTS.read_text())
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(drawn(results["counts"][IN_SERVERS], results["python"]))


def drawn(counts: Mapping[str, int], python: str) -> str:
    """The chart as SVG."""
    groups = {title: _bars(framework, counts) for framework, title in _GROUPS.items()}
    longest = max(bar.number for bars in groups.values() for bar in bars)
    rows = sum(map(len, groups.values()))
    height = _TITLE_HEIGHT + _GROUP_HEIGHT * len(groups) + _ROW_HEIGHT * rows + _FOOT_HEIGHT
    spoken = "; ".join(f"{bar.name} {bar.number:,}" for bars in groups.values() for bar in bars)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-labelledby="title description">',
        '<title id="title">Instructions that a rate limiter adds to a request</title>',
        f'<desc id="description">{escape(spoken)}</desc>',
        f"<style>{_STYLE}</style>",
        _text(0, 22, "Instructions that a rate limiter adds to a request", "title"),
        _text(0, 44, "Less is faster. The control is the same app with two headers that are added by hand.", "note"),
        *_groups(groups, longest),
        _text(
            0, height - 8, f"User instructions of the server process, counted by cachegrind, CPython {python}", "note"
        ),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _bars(framework: str, counts: Mapping[str, int]) -> list[Bar]:
    """The rate limiters of a framework, the fastest first."""
    names = [name for name in counts if name.startswith(f"{framework} ") and not is_control(name)]
    return sorted((Bar(name.partition(" + ")[2], added(name, counts)) for name in names), key=lambda bar: bar.number)


def _groups(groups: Mapping[str, list[Bar]], longest: int) -> Iterator[str]:
    top = _TITLE_HEIGHT
    for title, bars in groups.items():
        yield _text(0, top + 24, title, "group")
        top += _GROUP_HEIGHT
        begin = top
        for bar in bars:
            yield from _row(bar, top, longest)
            top += _ROW_HEIGHT
        yield f'<line class="axis" x1="{_LABELS}" y1="{begin - 4}" x2="{_LABELS}" y2="{top - 8}"/>'


def _row(bar: Bar, top: int, longest: int) -> Iterator[str]:
    kind = " ours" if bar.is_ours else ""
    width = max(2, round(bar.number / longest * (_WIDTH - _LABELS - _VALUES)))
    middle = top + _BAR_HEIGHT - 4
    yield _text(_LABELS - 12, middle, bar.name, f"name{kind}", anchor="end")
    yield f'<rect class="bar{kind}" x="{_LABELS}" y="{top}" width="{width}" height="{_BAR_HEIGHT}" rx="3"/>'
    yield _text(_LABELS + width + 8, middle, f"{bar.number:,}", f"value{kind}")


def _text(x: int, y: int, text: str, kind: str, *, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


if __name__ == "__main__":
    main()
