"""Several worker processes on one PostgreSQL share exact limits, however they were forked and whatever runs in them."""

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path

import pytest
from tests.integration import test_gevent_workers as greenlets
from tests.integration.test_redis_workers import COMMANDS, KEY, TOKENS, ask, serving
from tests.integration.test_uwsgi_forks import DAY, SLOTS, THREADS, UWSGI, answers
from tests.postgres_servers import Postgres
from tests.selection import parameters

#: The others repeat this one.
QUICK = "gunicorn, preloaded"


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    """A new database, for a guarded backend."""
    name = postgres.new_database()
    yield f"{postgres.url(name)}&budget_ms=5000"
    postgres.drop(name)


@pytest.mark.parametrize("command", parameters(COMMANDS, full=[name for name in COMMANDS if name != QUICK]))
def test_workers_share_one_limit(command: str, url: str, tmp_path: Path) -> None:
    """Of three times as many requests as the limit has tokens, exactly its tokens are admitted, by several workers."""
    with serving(command, url, tmp_path) as port, ThreadPoolExecutor(16) as threads:
        responses = list(threads.map(lambda _: ask(port, "/", KEY), range(3 * TOKENS)))

    statuses = Counter(status for status, _ in responses)
    processes = {body for status, body in responses if status == HTTPStatus.OK}
    assert statuses == {200: TOKENS, 429: 2 * TOKENS}
    assert len(processes) > 1


@pytest.mark.parametrize("command", parameters({"processes": UWSGI, "threads": THREADS}, full=("processes", "threads")))
def test_workers_that_were_forked_in_c(command: str, url: str, tmp_path: Path) -> None:
    """Forked by uWSGI with an open backend, workers grant exactly the tokens and slots, and every worker is well."""
    with serving(command, url, tmp_path, workers=1) as port:
        taken = answers(port, "/take", 3 * DAY)
        kept = answers(port, "/keep", 8 * SLOTS)
        states = {json.dumps(said["state"]) for said in answers(port, "/health", 16)}

    assert sum(said["allowed"] for said in taken) == DAY
    assert len({said["pid"] for said in taken}) > 1
    assert len({said["lease"] for said in kept if said["allowed"]}) == SLOTS
    assert sum(said["allowed"] for said in kept) == SLOTS
    assert states == {'"ok"'}


@pytest.mark.parametrize("command", parameters(greenlets.COMMANDS, full=greenlets.COMMANDS))
def test_greenlets(command: str, url: str, tmp_path: Path) -> None:
    """With 128 clients at once and an idle server there is no outage, whenever gevent patches."""
    with greenlets.serving(command, url, tmp_path) as port:
        decided = greenlets.decided_by(port)

    assert decided == {b"backend": greenlets.CLIENTS * greenlets.REQUESTS}
