"""A key store on each database, a manual clock, and services and verifiers that use them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from tests.key_stores import new_file
from tests.postgres_servers import Postgres

from awx_ratelimit.keys import KeyService, KeyStore, KeyVerifier
from awx_ratelimit.testing import ManualClock

#: 2025-06-01T10:00:00Z
START_MS = 1_748_772_000_000


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a database of each kind, without tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/keys.db"
        return
    server: Postgres = request.getfixturevalue("postgres")
    name = server.new_database()
    yield server.url(name)
    server.drop(name)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the file that tests use one after another."""
    return tmp_path_factory.mktemp("keys")


@pytest.fixture
def sqlite_database(shared_folder: Path) -> str:
    """The address of a new file with an empty store. It is the same address in each test, for the sake of `stores`."""
    return new_file(shared_folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """The address of an empty store on a database of each kind."""
    if request.param == "sqlite":
        address: str = request.getfixturevalue("sqlite_database")
        return address
    server: Postgres = request.getfixturevalue("postgres")
    return server.emptied_store()


@pytest.fixture(scope="session")
def stores() -> dict[str, KeyStore]:
    """The stores by their addresses. A new one compiles its statements again, which takes longer than most tests."""
    return {}


@pytest.fixture
def store(database: str, stores: dict[str, KeyStore]) -> Iterator[KeyStore]:
    """A store with all its tables, which connects anew in each test."""
    if database not in stores:
        stores[database] = KeyStore.open(database)
    yield stores[database]
    stores[database].close()


@pytest.fixture
def clock() -> ManualClock:
    """A clock that the test moves."""
    return ManualClock(START_MS)


@pytest.fixture
def service(store: KeyStore, clock: ManualClock) -> KeyService:
    """A service with an account ``acme`` on the plan starter."""
    service = KeyService(store, clock=clock)
    service.accounts.create("acme", plan="starter")
    return service


@pytest.fixture
def verifier_of(clock: ManualClock) -> Iterator[Callable[..., KeyVerifier]]:
    """A function that creates verifiers of any store, and closes them after the test."""
    with ExitStack() as stack:

        def make(store: KeyStore, **options: object) -> KeyVerifier:
            verifier = KeyVerifier(store, **{"clock": clock, **options})  # type: ignore[arg-type]
            stack.callback(verifier.close)
            return verifier

        yield make


@pytest.fixture
def verifiers(store: KeyStore, verifier_of: Callable[..., KeyVerifier]) -> Callable[..., KeyVerifier]:
    """A function that creates verifiers of the store."""
    return partial(verifier_of, store)


@pytest.fixture
def verifier(verifiers: Callable[..., KeyVerifier]) -> KeyVerifier:
    """A new verifier of the store."""
    return verifiers()


@pytest.fixture
def other_store(database: str, store: KeyStore) -> Iterator[KeyStore]:
    """The same store as another process opens it, which sends no notices to this one."""
    other = KeyStore.open(database)
    yield other
    other.close()


@pytest.fixture
def others(other_store: KeyStore, clock: ManualClock, service: KeyService) -> KeyService:
    """The service of another process."""
    return KeyService(other_store, clock=clock)
