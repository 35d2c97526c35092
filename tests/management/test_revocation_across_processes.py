"""Four processes with one key store, on each database: concurrent changes, and revocations that reach all of them."""

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from tests.machine import eventually, timed
from tests.management.processes import Process, processes
from tests.postgres_servers import Postgres

from awx_ratelimit.keys import KeyService, KeyStore

_accounts = count()


class FourProcesses:
    """The processes and their shared store."""

    def __init__(self, servers: list[Process], store: KeyStore, folder: Path) -> None:
        self.servers = servers
        self.folder = folder
        self.service = KeyService(store)

    def account(self, *, max_keys: int = 100) -> str:
        """An account that no other test has used."""
        account = f"account-{next(_accounts)}"
        self.service.accounts.create(account, plan="starter", max_keys=max_keys)
        return account

    def at_once(self, account: str, method: str, path: str, body: object, times: int) -> Counter[int]:
        """The statuses of calls that are sent to all processes at the same time."""
        with ThreadPoolExecutor(times) as pool:
            servers = [self.servers[number % 4] for number in range(times)]
            calls = [pool.submit(server.call, account, method, path, body) for server in servers]
            return Counter(call.result().status_code for call in calls)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def four(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FourProcesses]:
    folder = tmp_path_factory.mktemp("four")
    database = f"sqlite:///{folder}/keys.db"
    if request.param == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        database = postgres.url(postgres.new_database())
    store = KeyStore.open(database)
    with processes(4, folder, {"AWX_TEST_DATABASE": database}) as servers:
        yield FourProcesses(servers, store, folder)
    store.close()


def test_concurrent_creations(four: FourProcesses) -> None:
    """Of 24 concurrent creations in four processes, as many succeed as the account may have keys."""
    account = four.account(max_keys=5)
    statuses = four.at_once(account, "POST", "/api-keys", {"name": "n"}, 24)

    assert statuses == {201: 5, 409: 19}
    assert four.service.list(account).total == 5


def test_concurrent_creations_of_a_new_account(four: FourProcesses) -> None:
    """The first keys of a new account come through four processes at once, and the account is created once."""
    account = f"account-{next(_accounts)}"
    statuses = four.at_once(account, "POST", "/api-keys", {"name": "n"}, 16)

    made = [event.action for event in four.service.events(account, page_size=100).items]
    assert statuses == {201: 16}
    assert Counter(made) == {"key.created": 16, "account.created": 1}


def test_concurrent_rotations(four: FourProcesses) -> None:
    """Of 16 concurrent rotations in four processes one succeeds."""
    account = four.account()
    key = four.service.create(account, "n").key
    statuses = four.at_once(account, "POST", f"/api-keys/{key.id}/rotate", {}, 16)

    assert statuses == {201: 1, 409: 15}
    assert four.service.list(account).total == 2


def test_concurrent_revocations(four: FourProcesses) -> None:
    """Of 16 concurrent revocations one is a 204, and the others are a 404."""
    account = four.account()
    key = four.service.create(account, "n").key

    assert four.at_once(account, "DELETE", f"/api-keys/{key.id}", None, 16) == {204: 1, 404: 15}


def test_revocation(four: FourProcesses) -> None:
    """A cached key is refused at once by the process that revoked it, and by all others within a second."""
    account = four.account()
    made = four.service.create(account, "n")
    key = made.secret.reveal()
    before = [server.status(key) for server in four.servers for _ in range(2)]
    four.servers[0].call(account, "DELETE", f"/api-keys/{made.key.id}")
    with timed() as watch:
        there = four.servers[0].status(key)
        for server in four.servers:
            eventually(lambda server=server: server.status(key), 401)  # type: ignore[misc]
    later = [server.status(key) for server in four.servers for _ in range(5)]

    assert before == [200] * 8
    assert there == 401
    assert later == [401] * 20
    assert watch.seconds < watch.limit(1)


def test_revocation_during_a_look_up(four: FourProcesses) -> None:
    """A process that read the key before it was revoked elsewhere does not cache it."""
    account = four.account()
    made = four.service.create(account, "n")
    key, reader = made.secret.reveal(), four.servers[1]
    # The process has polled all changes of this account.
    eventually(lambda: reader.position() == four.servers[0].position(), expected=True)
    (four.folder / "hold").touch()
    try:
        with ThreadPoolExecutor(1) as pool:
            under_way = pool.submit(reader.status, key)
            held = eventually((four.folder / "held").exists, expected=True)
            heard = reader.position()
            revoked = four.servers[0].call(account, "DELETE", f"/api-keys/{made.key.id}").status_code
            has_heard = eventually(lambda: reader.position() != heard, expected=True)
            (four.folder / "go").touch()
            answer = under_way.result()
    finally:
        for name in ("hold", "held", "go"):
            (four.folder / name).unlink(missing_ok=True)

    # The key was valid when it was read.
    assert held is True
    assert revoked == 204
    assert has_heard is True
    assert answer == 200
    assert [reader.status(key) for _ in range(5)] == [401] * 5


def test_changed_plan_carries_over_usage(four: FourProcesses) -> None:
    """Every process applies a new plan within a second, and what was used counts."""
    account = four.account()
    four.service.accounts.set_plan(account, "small")
    key = four.service.create(account, "n").secret.reveal()
    before = [[server.left_today(key) for _ in range(5)][-1] for server in four.servers]
    four.service.accounts.set_plan(account, "large")
    changed_s, after = time.monotonic(), []
    with timed() as watch:
        for server in four.servers:
            asked = 6
            while (seen := server.left_today(key))[0] != 1_000 and time.monotonic() - changed_s < 5:
                asked += 1
                time.sleep(0.02)
            after.append((seen[0], seen[1] + asked))

    assert before == [(200, 195)] * 4
    assert after == [(1_000, 1_000)] * 4
    assert watch.seconds < watch.limit(1)


def test_temporary_override(four: FourProcesses) -> None:
    """Every process applies temporary limits within a second, and the permanent ones in time when they end."""
    account = four.account()
    four.service.accounts.set_plan(account, "small")
    key = four.service.create(account, "n").secret.reveal()
    seen = [server.left_today(key)[0] for server in four.servers]
    until = datetime.now(UTC) + timedelta(seconds=2)
    with timed() as watch:
        four.service.accounts.override(account, {"times": 2}, until=until)
        seen += [eventually(lambda server=server: server.left_today(key)[0], 400) for server in four.servers]  # type: ignore[misc]
    with timed() as ending:
        after = [eventually(lambda server=server: server.left_today(key)[0], 200) for server in four.servers]  # type: ignore[misc]
    early = (until - datetime.now(UTC)).total_seconds()

    assert seen == [200] * 4 + [400] * 4
    assert after == [200] * 4
    assert watch.seconds < watch.limit(1)
    assert early <= 0
    assert -early < ending.limit(0.5)


def test_acts_of_an_operator(four: FourProcesses) -> None:
    """What an operator does by REST in one process holds in all of them within a second."""
    account = four.account()
    key = four.service.create(account, "n").secret.reveal()
    for server in four.servers:
        server.status(key)
    until = (datetime.now(UTC) + timedelta(days=9)).strftime("%Y-%m-%d")
    acts = (
        ("PATCH", "", {"plan": "large"}, 1_000),
        ("PUT", "/override", {"times": 2, "until": until}, 2_000),
        ("DELETE", "/override", None, 1_000),
        ("POST", "/suspend", None, None),
        ("POST", "/resume", None, 1_000),
    )
    for method, path, body, of_plan in acts:
        assert four.servers[0].operate(method, f"/accounts/{account}{path}", body).status_code in (200, 204)
        with timed() as watch:
            seen = [eventually(lambda server=server: server.per_day(key), of_plan) for server in four.servers]  # type: ignore[misc]
        assert seen == [of_plan] * 4
        assert watch.seconds < watch.limit(1)


def test_suspension(four: FourProcesses) -> None:
    """A suspended account is refused everywhere within a second, and accepted again once it is activated."""
    account = four.account()
    key = four.service.create(account, "n").secret.reveal()
    for server in four.servers:
        server.status(key)
    seen = []
    for act, status in ((four.service.accounts.suspend, 401), (four.service.accounts.activate, 200)):
        act(account)
        with timed() as watch:
            seen += [eventually(lambda server=server: server.status(key), status) for server in four.servers]  # type: ignore[misc]
        assert watch.seconds < watch.limit(1.5)

    assert seen == [401] * 4 + [200] * 4
