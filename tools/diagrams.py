"""Draws the diagrams of docs/images/: ``python tools/diagrams.py``, or with ``--check`` to compare them.

They follow the reader's colour scheme, and have a background of their own, because a site may have another scheme.
"""

import sys
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parents[1] / "docs/images"
_STYLE: Final = """
  text { font: 14px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2933; }
  .title { font-weight: 600; }
  .note { font-size: 12.5px; fill: #52606d; }
  .card { fill: #f7f9fb; }
  .box { fill: #ffffff; stroke: #b8c4d0; stroke-width: 1.2; }
  .strong { fill: #e3edfc; stroke: #2563c9; }
  .line { fill: none; stroke: #52606d; stroke-width: 1.5; }
  .curve { fill: none; stroke: #2563c9; stroke-width: 2.2; }
  .area { fill: #2563c9; fill-opacity: 0.12; }
  .tip { fill: #52606d; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e4e7eb; }
    .note { fill: #9aa5b1; }
    .card { fill: #151a21; }
    .box { fill: #1f2630; stroke: #465363; }
    .strong { fill: #1b2c47; stroke: #6ea8ff; }
    .line { stroke: #9aa5b1; }
    .curve { stroke: #6ea8ff; }
    .area { fill: #6ea8ff; }
    .tip { fill: #9aa5b1; }
  }
"""


def request() -> str:
    """The way of a request: adapter, gate, limiter, backend, and back."""
    rows = [
        ("Adapter", "reads the request of the framework", ""),
        ("Gate", "rules: exempt? cost? budgets?", "identify: whose key is it? plans: which limits?"),
        ("Limiter", "one claim for all budgets", ""),
        ("Backend", "one atomic step: all limits, or none", "memory, a file, Redis or PostgreSQL"),
    ]
    parts, x, width, height, gap = [], 40, 400, 70, 34
    for index, (title, first, second) in enumerate(rows):
        y = 40 + index * (height + gap)
        parts.append(_box(x, y, width, height, title, [first, *([second] if second else [])], strong=index == 3))
        if index:
            parts.append(_arrow(x + 120, y - gap, x + 120, y - 3))
            parts.append(_arrow(x + 280, y - 3, x + 280, y - gap + 3))
    labels = ["Request", "subject, plan, cost", "claim"]
    answers = ["429, or headers", "Decision", "Decision"]
    for index, (down, up) in enumerate(zip(labels, answers, strict=True)):
        y = 40 + height + index * (height + gap) + gap // 2 + 5
        parts += [_text(x + 112, y, down, "note", "end"), _text(x + 290, y, up, "note")]
    right = 520
    parts.append(_box(right, 40, 220, 70, "Your app", ["only if it is allowed"]))
    parts.append(_arrow(x + width, 64, right - 3, 64))
    parts.append(_arrow(right, 88, x + width + 3, 88))
    ending = ["releases the slot,", "settles the real cost"]
    parts.append(_box(right, 176, 220, 80, "When the body ends", ending))
    parts.append(_arrow(right + 110, 110, right + 110, 173))
    return _svg(780, 446, "The way of a request through adapter, gate, limiter and backend", parts)


def layers() -> str:
    """The layers of the package: a module imports only from layers below it."""
    rows = [
        (["cli"], "the command awx-ratelimit"),
        (["console", "loadtest"], "pages for keys; the load tester"),
        (["adapters", "management"], "frameworks; the REST API for keys"),
        (["http"], "decisions as HTTP"),
        (["limiter"], "the verbs that users call"),
        (["waiting"], "claims that wait for room"),
        (["backends", "keys"], "where limits are kept; the lifecycle of keys"),
        (["observability"], "metrics, logs, usage history"),
        (["core", "runtime"], "pure arithmetic; the process"),
        (["errors"], "the exception tree"),
    ]
    parts, height, gap = [], 40, 10
    for index, (names, note) in enumerate(rows):
        y, width = 32 + index * (height + gap), (380 - 12 * (len(names) - 1)) / len(names)
        for column, name in enumerate(names):
            strong = name in ("core", "runtime")
            parts.append(_box(70 + column * (width + 12), y, width, height, name, [], strong=strong))
        parts.append(_text(474, y + 25, note, "note"))
    bottom = 32 + len(rows) * (height + gap) - gap
    parts.append(_arrow(44, 36, 44, bottom - 4))
    parts.append(f'<text class="note" transform="rotate(-90 30 {bottom // 2})" x="30" y="{bottom // 2}">imports</text>')
    return _svg(780, bottom + 32, "The layers of the package, from the command line to the errors", parts)


def token_bucket() -> str:
    """The tokens of a bucket of 60 per minute: quiet, then a client that always asks, then a wait."""
    left, top, width, height = 70, 40, 640, 200
    # Seconds and tokens: full, emptied by a burst at 20 s, empty while a client takes each token, then refilling.
    points = [(0, 60), (20, 60), (22, 2), *_sawtooth(22, 80), (80, 0), (120, 40)]
    place = [(left + s * width / 120, top + height - tokens * height / 66) for s, tokens in points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in place)
    floor = top + height
    parts = [
        f'<polygon class="area" points="{left},{floor} {line} {left + width},{floor}"/>',
        f'<polyline class="curve" points="{line}"/>',
        f'<path class="line" d="M{left},{top} V{floor} H{left + width}"/>',
        _text(left - 10, top + height - 60 * height / 66 + 5, "60", "note", "end"),
        _text(left - 10, floor + 4, "0", "note", "end"),
        *(_text(left + s * width / 120, floor + 22, f"{s} s", "note", "middle") for s in (0, 20, 40, 60, 80, 100, 120)),
        _text(left + 14, top + 46, "full: no more", "note"),
        _text(left + 14, top + 63, "than the burst", "note"),
        _text(left + 125, top + 46, "a burst: 60 at once", "note"),
        _text(left + 150, floor - 26, "a client that always asks gets one a second", "note"),
        _text(left + 448, top + 60, "it waits: tokens refill,", "note"),
        _text(left + 448, top + 77, "one each second", "note"),
        _text(left, 24, "Tokens of 60/minute", "title"),
    ]
    return _svg(780, 290, "The tokens of a bucket of 60 per minute over two minutes", parts)


def _sawtooth(start: int, end: int) -> Iterator[tuple[float, float]]:
    for second in range(start, end, 2):
        yield second, 0.0
        yield second + 1.9, 2.0


def _box(
    x: float, y: float, width: float, height: float, title: str, notes: Sequence[str], *, strong: bool = False
) -> str:
    lines = [(title, "title"), *((note, "note") for note in notes)]
    first = y + height / 2 - (len(lines) - 1) * 9 + 5
    texts = "".join(
        _text(x + width / 2, first + index * 18, text, kind, "middle") for index, (text, kind) in enumerate(lines)
    )
    kind = "box strong" if strong else "box"
    return f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="8"/>{texts}'


def _arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path class="line" marker-end="url(#tip)" d="M{x1:g},{y1:g} L{x2:g},{y2:g}"/>'


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    tip = '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" width="{width}">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n"
        f'<defs>{tip}<path class="tip" d="M0,0 L8,4 L0,8 z"/></marker></defs>\n'
        f'<rect class="card" width="{width}" height="{height}" rx="12"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


DIAGRAMS: Final = {"request.svg": request, "layers.svg": layers, "token-bucket.svg": token_bucket}


def main(arguments: list[str]) -> int:
    """Write the diagrams, or say which of them are out of date."""
    status = 0
    FOLDER.mkdir(exist_ok=True)
    for name, draw in DIAGRAMS.items():
        path, drawn = FOLDER / name, draw()
        if arguments != ["--check"]:
            path.write_text(drawn)
        elif not path.exists() or path.read_text() != drawn:
            print(f"docs/images/{name}: out of date; run make diagrams")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
