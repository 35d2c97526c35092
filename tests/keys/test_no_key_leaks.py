"""The whole lifecycle at DEBUG, on each database: a key appears only in the value that creates it."""

import io
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from awx_ratelimit.errors import AwxRateLimitError
from awx_ratelimit.keys import CreatedKey, KeyFormat, KeyService, KeyStore, KeyVerifier
from awx_ratelimit.keys.storage.schema import METADATA
from awx_ratelimit.testing import ManualClock


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Everything that is logged at DEBUG, including SQLAlchemy's statements."""
    output = io.StringIO()
    handler = logging.StreamHandler(output)
    handler.setFormatter(logging.Formatter("%(name)s %(message)s"))
    root = logging.getLogger()
    names = ["", "sqlalchemy.engine", "sqlalchemy.pool", "psycopg", "awx_ratelimit"]
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    root.addHandler(handler)
    yield output
    root.removeHandler(handler)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


class Lifecycle:
    """Every operation on keys, and everything that these operations returned or raised."""

    def __init__(self, store: KeyStore, clock: ManualClock, keys: KeyFormat) -> None:
        self.service = KeyService(store, clock=clock, keys=keys)
        self.verifier = KeyVerifier(store, clock=clock, keys=keys)
        self.keys: list[str] = []
        self.said: list[object] = []

    def made(self, created: CreatedKey) -> str:
        self.keys.append(created.secret.reveal())
        self.said.append(created)
        return created.key.id

    def tried(self, work: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        try:
            self.said.append(work(*args, **kwargs))
        except AwxRateLimitError as error:
            self.said += [error, "".join(traceback.format_exception(error))]

    def lived(self) -> None:
        service, verifier = self.service, self.verifier
        service.accounts.create("acme", plan="starter", max_keys=3)
        ids = [self.made(service.create("acme", "n", actor="ada")) for _ in range(3)]
        self.tried(service.create, "acme", "one too many")
        self.made(service.rotate("acme", ids[0]))
        self.tried(service.rotate, "acme", ids[0])
        self.tried(service.revoke, "acme", ids[1])
        for key in (*self.keys, self.keys[0][:-1], self.keys[0] + "0", self.keys[0].swapcase()):
            for sent in (key, f" {key}\t", key + "," + key):
                self.tried(verifier.verify, sent.encode(), "a")
            # Keys in every wrong argument.
            self.tried(service.create, "acme", f"my {key}")
            self.tried(service.create, key, "n")
            self.tried(service.create, "acme", "n", actor=key)
            self.tried(service.rename, "acme", ids[2], key)
            self.tried(service.get, "acme", key)
            self.tried(service.revoke, key, key)
            self.tried(service.accounts.create, key)
            self.tried(service.accounts.set_plan, "acme", key)
            self.tried(service.accounts.set_overrides, "acme", {key: 1})
            self.tried(service.accounts.ensure, key)
            self.tried(service.operator.record_reset, "acme", actor=key)
        verifier.poll()
        verifier.write_uses()
        self.said += [service.list("acme"), service.events("acme", page_size=100), verifier.health()]
        self.said += [service, verifier, service.accounts]


def _shown(value: Any) -> str:
    parts = [repr(value), str(value), repr(getattr(value, "__dict__", ""))]
    if is_dataclass(value):
        parts += [repr(getattr(value, field.name)) for field in fields(value)]
    return " ".join(parts)


@pytest.mark.parametrize("pepper", [None, b"a pepper of many bytes"])
@pytest.mark.parametrize("prefix", ["awx_", "acme_"])
def test_key_appears_nowhere(
    store: KeyStore,
    database: str,
    clock: ManualClock,
    written: io.StringIO,
    tmp_path: Path,
    pepper: bytes | None,
    prefix: str,
) -> None:
    """No key is in the log, errors and their tracebacks, returned values or the database."""
    life = Lifecycle(store, clock, KeyFormat(prefix, pepper=pepper))
    life.lived()
    life.verifier.close()
    rows = []
    with store._engines.reading.connect() as connection:
        for name in METADATA.tables:
            rows += [str(row) for row in connection.execute(text(f"SELECT * FROM {name}"))]
    files = b"".join(path.read_bytes() for path in tmp_path.glob("keys.db*"))
    places = {
        "log": written.getvalue(),
        "said": " ".join(_shown(value) for value in life.said),
        "rows": " ".join(rows),
        "files": files.decode("latin-1"),
    }

    assert [
        (place, key) for key in life.keys for place, shown in places.items() if key[len(prefix) :][:32] in shown
    ] == []
    # The search works: it finds what is there instead of keys.
    assert "INSERT INTO awx_api_keys" in places["log"]
    assert len(life.keys) == 4
    assert all(f"{prefix}...{key[-4:]}" in places["said"] for key in life.keys)


def test_log_of_statements(service: KeyService, written: io.StringIO) -> None:
    """The log of SQLAlchemy's statements (INFO) contains no parameters."""
    logging.getLogger("sqlalchemy.engine").setLevel(logging.INFO)
    service.create("acme", "a-name-for-nobody", actor="an-actor-for-nobody")

    assert "INSERT INTO awx_api_keys" in written.getvalue()
    assert "for-nobody" not in written.getvalue()


def test_pickling(service: KeyService) -> None:
    """Returned values can be pickled, for caches and other processes, except the one with the secret."""
    created = service.create("acme", "n")

    assert pickle.loads(pickle.dumps(created.key)) == created.key
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(created)
