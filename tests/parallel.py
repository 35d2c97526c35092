"""How pytest-xdist divides the tests: tests that share a server run in one worker, and long groups start first."""

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from _pytest.assertion import rewrite

try:
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]
except ImportError:  # Tests also run without xdist, one after another.
    LoadScopeScheduling = object

#: The groups that take longest, in the order in which they start.
_LONG_GROUPS = ("loadtest", "browser", "postgresql", "servers", "cluster", "sentinel")
#: What a group is named for. A web server that is not listed here is started by every worker that has a test for it.
_SHARED = re.compile(
    r"tests/(?P<folder>loadtest|browser|docs_site)/|tests/.*_(?P<group>cluster|sentinel)(\.py|\[|$)"
    r"|tests/(keys|management)/(.*\[(.*-)?postgresql[-\]]|.*_outage\.py|.*_isolation_level$)"
    r"|tests/servers/.*\[(.*-)?(?P<server>uvicorn-httptools|uvicorn-h11|hypercorn|granian-asgi|granian-wsgi|waitress"
    r"|gunicorn-(sync|gthread|gevent-preload|preload))[-\]]"
)
#: `make test` leaves these out: the code above the key store does not depend on the database.
_FULL = re.compile(
    r"tests/(keys/test_(stored_keys|shared_account_limits|verifier\w*)|management/test_api)\.py::.*\bpostgresql\b"
)
#: An argument that is refused before the store is asked, and an id that the store does not know.
_REFUSED_FULL = re.compile(
    r"tests/keys/test_(service|accounts|temporary_overrides|operator_reports)\.py::(\w+::)?test_(invalid|unknown)\w*\[.*\bpostgresql\b"
)
#: Forks and races are the same on either database; each is tested with the one that shares more between processes.
_RACES_FULL = re.compile(r"tests/keys/test_(forks\.py::.*\bpostgresql\b|races\.py::.*\bsqlite\b)")
_USAGE_FULL = re.compile(
    r"tests/(management/test_usage_history\.py::.*\bpostgresql\b"
    r"|keys/test_usage_history\.py::test_(fork|exit|thread|async_flush|closed|failed_write|many_keys)\[postgresql"
    r"|keys/test_key_tracing\.py::test_bounded\[postgresql)"
)
#: The pages are the same without JavaScript. What it changes is tested without it in the tests of the main tasks.
_PLAIN_FULL = re.compile(
    r"tests/browser/test_(operator\.py::test_(limits_and_explain|find_a_key)"
    r"|flows\.py::test_(reload|rename|hostile_name|hostile_name_in_forms|keyboard|usage|skip_link)"
    r"|safety\.py::test_back_and_forward)\[plain"
)
#: The pages and forms are the same behind both adapters. Logins, cookies and what attacks them are tested behind both.
_WSGI_FULL = re.compile(r"tests/console/test_(pages|usage_pages|forms|quota_notes)\.py::.*\[(.*-)?wsgi[-\]]")
#: Several processes share a store on PostgreSQL, and two of the four ways in which uWSGI's processes share limits.
_PROCESSES_FULL = re.compile(
    r"tests/management/(test_revocation_across_processes\.py::.*\bsqlite\b"
    r"|test_no_key_in_output\.py::test_key_appears_nowhere\[postgresql)"
    r"|tests/integration/test_uwsgi_forks\.py::.*\[(processes-host|threads-redis)\]"
)
_ALL_FULL = (_FULL, _REFUSED_FULL, _RACES_FULL, _USAGE_FULL, _PLAIN_FULL, _WSGI_FULL, _PROCESSES_FULL)
#: Tests that share nothing: each is a group. Two tests of the demo share a run.
_ALONE = re.compile(r"tests/(test_examples\.py::(?!test_demo$|test_output_of_the_demo$)|chaos/)")
#: The tests of a row share its app.
_ROW = re.compile(r"tests/works_with/test_rows\.py::\w+\[(?P<row>.+)\]")


def group_of(nodeid: str) -> str:
    """Return the group of a test. All tests of a group run in one worker, one after another."""
    if shared := _SHARED.match(nodeid):
        server = shared["server"]
        return shared["folder"] or shared["group"] or (f"servers {server}" if server else "postgresql")
    if row := _ROW.match(nodeid):
        return f"works with {row['row']}"
    return nodeid if _ALONE.match(nodeid) else nodeid.partition("::")[0]


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Gives each worker one group after another, in the order of the collection."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)

    def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
        """Forget a group when it is complete, or else all tests that a worker has run are counted after each test."""
        super().mark_test_complete(node, item_index, duration)
        groups = self.assigned_work[node]
        group = group_of(self.registered_collections[node][item_index])
        if all(groups[group].values()):
            del groups[group]


def pytest_xdist_auto_num_workers() -> int:
    """Run two workers per core: tests wait as much as they compute."""
    return 2 * len(os.sched_getaffinity(0))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Schedule by groups."""
    config.option.loadscopereorder = False
    return GroupScheduling(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Rewrite the assertions of a share of the modules, for all workers: else each would rewrite those of all."""
    config = session.config
    worker = getattr(config, "workerinput", None)
    if worker is None or sys.dont_write_bytecode:
        return
    roots = [config.invocation_params.dir / argument.partition("::")[0] for argument in config.args]
    paths = sorted(path for root in roots for path in ([root] if root.is_file() else root.rglob("test_*.py")))
    number = int(worker["workerid"].removeprefix("gw"))
    for path in paths[number :: worker["workercount"]]:
        _rewrite(path, config)


def _rewrite(path: Path, config: pytest.Config) -> None:
    compiled = rewrite.get_cache_dir(path) / (path.stem + rewrite.PYC_TAIL)
    if rewrite._read_pyc(path, compiled) is None and rewrite.try_makedirs(compiled.parent):
        source_hash, code = rewrite._rewrite_test(path, config)
        rewrite._write_pyc(config.stash[rewrite.assertstate_key], code, source_hash, compiled)


@pytest.hookimpl(trylast=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Create no items for parameters that `make test` leaves out: each worker would create them all, and drop them."""
    if metafunc.config.option.markexpr == "not full":
        kept = [call for call in metafunc._calls if all(mark.name != "full" for mark in call.marks)]
        # A function without any parameters left is dropped by its mark.
        metafunc._calls = kept or metafunc._calls


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that `make test` leaves out. Put each group side by side, and the longest groups first."""
    ranks: dict[str, tuple[int, int]] = {}
    for item in items:
        if any(pattern.match(item.nodeid) for pattern in _ALL_FULL):
            item.add_marker("full")
        group = group_of(item.nodeid)
        kind = group.partition(" ")[0]
        rank = _LONG_GROUPS.index(kind) if kind in _LONG_GROUPS else len(_LONG_GROUPS) + ("::" not in group)
        ranks.setdefault(group, (rank, len(ranks)))
    items.sort(key=lambda item: ranks[group_of(item.nodeid)])


@pytest.fixture(scope="session", autouse=True)
def _worker_folder_is_reachable(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let tests that become another user reach their folders: a worker's folder lies one level deeper."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        for folder in tmp_path_factory.getbasetemp().parents[:2]:
            folder.chmod(0o755)
