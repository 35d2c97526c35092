"""Generates the synchronous modules from their asynchronous sources: the same logic without `async` and `await`.

    python tools/generate_sync.py            write the modules
    python tools/generate_sync.py --check    write nothing; exit with status 1 if a module is out of date

`limiter.py` becomes `limiter_sync.py`, and so on. Only classes named `Async...`, coroutine functions, and functions
named `async_...` are rewritten. The generated module imports everything else from its source. Edit the source or the
table of differences below, and never a generated module.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

PACKAGE: Final = Path(__file__).parent.parent / "src"
SOURCES: Final = (
    "awx_ratelimit.limiter",
    "awx_ratelimit.limiter_upkeep",
    "awx_ratelimit.waiting.acquiring",
    "awx_ratelimit.http.gate",
    "awx_ratelimit.http.gate_charges",
    "awx_ratelimit.http.gate_explains",
    "awx_ratelimit.http.gate_begins",
    "awx_ratelimit.http.route_admission",
    "awx_ratelimit.backends.postgres.backend",
    "awx_ratelimit.backends.redis.backend",
    "awx_ratelimit.backends.remote.limits",
    "awx_ratelimit.backends.remote.channel",
    "awx_ratelimit.backends.remote.claims",
    "awx_ratelimit.backends.redis.connection",
    "awx_ratelimit.backends.resilience.wrapper",
    "awx_ratelimit.backends.resilience.guarded",
    "awx_ratelimit.backends.resilience.denial_cache",
)
_HEADER = '''"""{summary}

Generated from `{name}.py` by tools/generate_sync.py: change that module and run the program again.
"""
'''

#: Methods, and functions of a module (""), that only tasks need.
ASYNC_ONLY: Final = {
    ("", "_closer"), ("AsyncChannel", "forget"), ("AsyncConnection", "forget"), ("AsyncBegins", "_begin_later"),
}  # fmt: skip

#: Asynchronous text and the synchronous text that replaces it. A longer text comes before a text that it contains.
DIFFERENCES: Final = {
    "aclose": "close",
    # Only a coroutine can be mistaken for a decision.
    "    @must_be_awaited\n": "",
    "checked_async_backend": "checked_backend",
    "flush_async": "flush",
    "identify_quietly_async": "identify_quietly",
    "AsyncBackend | Backend": "Backend",
    "claiming: Any = claiming_limiter(limiter)": "claiming = limiter",
    "Admitted | Awaitable[Admitted] | None": "Admitted | None",
    "Admitted | Awaitable[Admitted]": "Admitted",
    "Admission:  # noqa: C901  # each kind of request has its branch": "Admission:",
    "begin(  # noqa: PLR0911  # see docs/hot-path.md": "begin(",
    """            if not isinstance(decision, Decision) and isawaitable(decision):
                return self._begin_later(decision, rule, cost, caller, plan, source, read)
""": "",
    "batching import TaskBatching": "thread_batching import ThreadBatching",
    "task_transport import Done, TaskTransport": "thread_transport import ThreadTransport",
    "TaskTransport": "ThreadTransport",
    # A task's call has one deadline from asyncio; a thread hands its deadline down.
    "TaskBatching(claims.start, partial(SentClaims, session, server), session.abandon)": (
        "ThreadBatching(claims.run, partial(SentClaims, session, server), session.abandon, timeout_s=server.timeout_s)"
    ),
    "TaskBatching(others.start, SentCalls, ignore)": (
        "ThreadBatching(others.run, SentCalls, ignore, timeout_s=server.timeout_s)"
    ),
    "LoopChannels": "ThreadChannels",
    "TaskCalls": "ThreadCalls",
    ".send(item)": ".send(item, until_s)",
    "asyncio.to_thread(self._maintenance.renew_now)": "self._maintenance.renew_now()",
    "asyncio.to_thread(self._maintenance.flush)": "self._maintenance.flush()",
    "asyncio.to_thread(self._maintenance.close, with_held=self._channels.are_alone)": (
        "self._maintenance.close(with_held=self._channels.are_alone)"
    ),
    "asyncio.to_thread(self._session.find_server, record)": "self._session.find_server(record)",
    "asyncio.sleep": "time.sleep",
    "from awx_ratelimit.runtime.task_deadlines import TaskDeadlines": "from contextlib import nullcontext",
    "        self._deadlines = TaskDeadlines(budget_ms / 1000)\n": "",
    "self._deadlines.begin()": "nullcontext()",
    # Only async code may run on another library than asyncio.
    "    needs_asyncio: ClassVar[bool] = True\n": "",
    # An async gate also gets plain decisions, from backends that never wait.
    """            if decision.__class__ is not Decision:
                decision = await decision
""": "",
    # Docstrings.
    "coroutine functions and async generators": "functions and generators",
    "from the tasks of an event loop": "from any thread",
    "for the tasks of event loops": "for threads",
    "an ASGI adapter": "a WSGI adapter",
    " `identify` may be plain or async.": "",
    """Takes an async backend, or a synchronous one that never waits longer than 50 ms (memory, host). Any other backend
    raises TypeError. So does the result of `acquire` or `peek` without ``await`` when it is used as a condition.
""": "Raises TypeError for an asynchronous backend.\n",
    "It takes any backend that AsyncLimiter accepts.": "It takes any synchronous backend.",
    """A claim waits up to `budget_ms` for the backend. Delays of this process, such as a blocked event loop or threads
    that wait for their turn, are added to the budget and are not failures of the backend.
""": """The backend keeps to `budget_ms` by itself, as RedisBackend does with `timeout_ms`: nothing interrupts it.
""",
}


def main(arguments: list[str]) -> int:
    """Write or check every generated module. Returns the exit status."""
    checking, stale = "--check" in arguments, []
    for source in SOURCES:
        target, text = _path(f"{source}_sync"), generated(source)
        if target.exists() and target.read_text() == text:
            continue
        stale.append(target)
        if not checking:
            target.write_text(text)
    for target in stale:
        print(f"{target.relative_to(PACKAGE)}: {'out of date; run tools/generate_sync.py' if checking else 'written'}")
    return 1 if checking and stale else 0


def generated(source: str) -> str:
    """The text of the synchronous module for `source`."""
    text = _path(source).read_text()
    tree, lines = ast.parse(text), text.splitlines(keepends=True)
    kept = [_text(node, lines) for node in tree.body if _is_import(node)]
    rewritten = [_text(node, lines) for node in tree.body if _is_async(node) and ("", _name(node)) not in ASYNC_ONLY]
    shared = sorted(name for node in tree.body if not _is_import(node) and not _is_async(node) for name in _names(node))
    imports = "".join(f"from {source} import {name}\n" for name in shared)
    summary = _to_sync((ast.get_docstring(tree) or "").split("\n\n")[0].replace("\n", " "))
    body = _to_sync("".join(kept) + imports + "\n\n" + "\n\n".join(rewritten))
    return _format(_HEADER.format(summary=summary, name=source.rpartition(".")[2]) + _redirect_imports(body), source)


def _is_import(node: ast.stmt) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom | ast.Try)


def _is_async(node: ast.stmt) -> bool:
    return isinstance(node, ast.AsyncFunctionDef) or getattr(node, "name", "").lstrip("_").lower().startswith("async")


def _names(node: ast.stmt) -> Iterator[str]:
    """The names that a statement defines."""
    targets: list[Any] = getattr(node, "targets", None) or [getattr(node, "target", node)]
    yield from (name for target in targets if (name := getattr(target, "id", getattr(target, "name", None))))


def _text(node: Any, lines: list[str]) -> str:
    """The source of a statement and the comments above it, without the methods in ASYNC_ONLY."""
    dropped = [part for part in getattr(node, "body", []) if (getattr(node, "name", ""), _name(part)) in ASYNC_ONLY]
    without = {number for part in dropped for number in range(part.lineno - 1, part.end_lineno + 1)}
    decorators = getattr(node, "decorator_list", [])
    first = min(part.lineno for part in (node, *decorators)) - 1
    while first and lines[first - 1].startswith("#"):
        first -= 1
    return "".join(lines[number] for number in range(first, node.end_lineno) if number not in without)


def _name(node: ast.stmt) -> str:
    return getattr(node, "name", "")


def _to_sync(text: str) -> str:
    for one, other in DIFFERENCES.items():
        text = text.replace(one, other)
    text = re.sub(r"\b(?:async|await) |\basync_(?=[a-z])", "", text)
    return re.sub(r"\b(_?)Async(?=[A-Z])", r"\1", text)


def _redirect_imports(text: str) -> str:
    """Import generated names from the modules that define them."""
    homes = {name: f"{source}_sync" for source in SOURCES for name in _generated_names(source)}

    def imported(found: re.Match[str]) -> str:
        indent, module = found[1], found[2]
        names = re.findall(r"\w+(?: as \w+)?", found[3])
        return "\n".join(f"{indent}from {homes.get(name, module)} import {name}" for name in names)

    return re.sub(r"^( *)from (awx_ratelimit[\w.]*) import (\([^)]*\)|[^\n(]*)$", imported, text, flags=re.MULTILINE)


def _generated_names(source: str) -> set[str]:
    """The public names that are generated from `source`."""
    nodes = [node for node in ast.parse(_path(source).read_text()).body if _is_async(node)]
    return {_to_sync(f"async {_name(node)}") for node in nodes}


def _format(text: str, source: str) -> str:
    """`text` without unused imports, sorted and formatted."""
    ruff = [str(Path(sys.executable).parent / "ruff")]
    name = ["--stdin-filename", str(_path(f"{source}_sync")), "-"]
    for step in (["check", "--fix-only", "--select", "F401,F811,I", "--quiet"], ["format", "--quiet"]):
        text = subprocess.run([*ruff, *step, *name], input=text, capture_output=True, text=True, check=True).stdout
    return text


def _path(module: str) -> Path:
    return PACKAGE / (module.replace(".", "/") + ".py")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
