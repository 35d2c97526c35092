"""A whole run at DEBUG on a real server, each database and a real Redis: keys appear only where they are created."""

import json
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.management.processes import Process, processes
from tests.postgres_servers import Postgres
from tests.redis_servers import RedisServer, StartRedis
from tests.servers.stored import token_for

LEVELS = ["sqlalchemy.engine", "sqlalchemy.pool", "uvicorn", "uvicorn.access", "uvicorn.error", "asyncio", "redis"]
#: Long enough not to occur in other text by chance.
_PIECE = 10
#: Texts that must be there, or else the search does not work.
CONTROLS = [("log", "INSERT INTO awx_api_keys"), ("log", "GET /plain"), ("database", "key.created"), ("redis", "awx:{")]


def log_config(folder: Path, *, redacting: bool) -> list[str]:
    """A configuration that logs everything at DEBUG, with or without the filter of docs/api-keys.md."""
    filters = {"redact": {"()": "awx_ratelimit.keys.KeyRedactingFilter"}} if redacting else {}
    handler: dict[str, Any] = {"class": "logging.StreamHandler", "level": "DEBUG", "filters": list(filters)}
    loggers: dict[str, Any] = {name: {"level": "DEBUG"} for name in LEVELS}
    loggers["uvicorn.access"] |= {"handlers": ["access"], "propagate": False}
    line = '%(client_addr)s "%(request_line)s" %(status_code)s'
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": filters,
        "formatters": {
            "plain": {"format": "%(name)s %(message)s"},
            "access": {"()": "uvicorn.logging.AccessFormatter", "fmt": line},
        },
        "handlers": {"all": {**handler, "formatter": "plain"}, "access": {**handler, "formatter": "access"}},
        "loggers": loggers,
        "root": {"level": "DEBUG", "handlers": ["all"]},
    }
    path = folder / "logging.json"
    path.write_text(json.dumps(config))
    return ["--log-config", str(path)]


class Lifecycle:
    """Every operation on keys over HTTP, and every response."""

    def __init__(self, server: Process) -> None:
        self._server = server
        self.keys: list[str] = []
        self.tokens = {account: token_for(account) for account in ("acme", "other")}
        self.answered: list[str] = []

    def asked(self, method: str, path: str, body: Any = None, *, token: str | None = None, key: str = "") -> Any:
        """Send a request and record its response, unless it contains a new key."""
        headers = {"Authorization": f"Bearer {token or self.tokens['acme']}"} | ({"X-API-Key": key} if key else {})
        answer = self._server.http.request(method, path, json=body, headers=headers)
        if answer.status_code == 201:
            made = answer.json()
            self.keys.append(made["key"])
            return made["id"]
        self.answered.append(f"{answer.headers} {answer.text}")
        return None

    def lived(self) -> None:
        """Go through the whole lifecycle, and send keys in every wrong place except a URL."""
        base = "/api/v1/api-keys"
        ids = [self.asked("POST", base, {"name": f"n{number}"}) for number in range(3)]
        ids.append(self.asked("POST", f"{base}/{ids[0]}/rotate", {"grace_period_seconds": 60}))
        for key in [*self.keys, self.keys[0][:-1], self.keys[0] + "0"]:
            for sent in (key, f"{key},{key}", f"x{key}"):
                self.asked("GET", "/plain", key=sent)
                self.asked("GET", "/plain", token=sent)
                self.asked("GET", base, token=sent)
            for body in ({"name": f"my {key}"}, {key: 1}, [key]):
                self.asked("POST", base, body)
            self.asked("PATCH", f"{base}/{ids[0]}", {"name": key})
        self.asked("DELETE", f"{base}/{ids[1]}")
        self.asked("GET", "/plain", key=self.keys[1])
        for path in (base, f"{base}/{ids[0]}", "/api/v1/usage", "/api/v1/openapi.json", f"{base}?page_num=1"):
            self.asked("GET", path)
            self.asked("GET", path, token=self.tokens["other"])

    def pieces(self) -> list[str]:
        """Parts of keys and tokens that must appear nowhere, also in other encodings."""
        secret = [key[4:36] for key in self.keys] + [token.rpartition(".")[2] for token in self.tokens.values()]
        parts = [text[start : start + _PIECE] for text in secret for start in range(0, len(text) - _PIECE, _PIECE)]
        others = [form for key in self.keys for form in (key.encode().hex(), b64encode(key.encode()).decode()[8:40])]
        return parts + others


@pytest.fixture(params=["sqlite", "postgresql"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of an empty database, and the folder with all its files."""
    if request.param == "sqlite":
        folder = tmp_path / "data"
        folder.mkdir()
        yield f"sqlite:///{folder}/keys.db", folder
        return
    server: Postgres = request.getfixturevalue("postgres")
    name = server.new_database()
    yield server.url(name), server.folder
    server.drop(name)


def file_contents(folder: Path) -> str:
    """The bytes of all files."""
    found = bytearray()
    for path in folder.rglob("*"):
        # A running server may remove files between the listing and the reading.
        with suppress(FileNotFoundError):
            found += path.read_bytes() if path.is_file() else b""
    return found.decode("latin-1")


def redis_contents(redis: RedisServer) -> str:
    """All that Redis stores, as written to a disk, uncompressed."""
    with redis.client() as client:
        client.config_set("rdbcompression", "no")
        client.save()
    return (redis.socket.parent / "dump.rdb").read_bytes().decode("latin-1")


def test_key_appears_nowhere(data: tuple[str, Path], start_redis: StartRedis, tmp_path: Path) -> None:
    """No part of a key or a token is in the log, in later responses, in the database's files or in Redis."""
    database, folder = data
    redis = start_redis()
    settings = {"AWX_TEST_DATABASE": database, "AWX_TEST_BACKEND": redis.url}
    with processes(1, tmp_path, settings, log_config(tmp_path, redacting=False)) as (server,):
        life = Lifecycle(server)
        life.lived()
        answers, dump = " ".join(life.answered), redis_contents(redis)
    places = {"log": server.log.read_text(), "answers": answers, "database": file_contents(folder), "redis": dump}

    assert [(name, piece) for piece in life.pieces() for name, text in places.items() if piece in text] == []
    assert len(life.keys) == 4
    assert f"awx_...{life.keys[0][-4:]}" in answers
    assert [words in places[name] for name, words in CONTROLS] == [True] * len(CONTROLS)


def test_filter_of_access_logs(tmp_path: Path) -> None:
    """Keys in URLs are masked in every line of uvicorn's log, and no line is lost."""
    settings = {"AWX_TEST_DATABASE": f"sqlite:///{tmp_path}/keys.db"}
    with processes(1, tmp_path, settings, log_config(tmp_path, redacting=True)) as (server,):
        life = Lifecycle(server)
        life.asked("POST", "/api/v1/api-keys", {"name": "n"})
        key = life.keys[0]
        for path in (f"/plain?key={key}", f"/api/v1/api-keys/{key}", f"/api/v1/api-keys?page_num={key}"):
            life.asked("GET", path, key=key)
    log, masked = server.log.read_text(), f"awx_...{key[-4:]}"

    seen = [words in log for words in (f"/plain?key={masked}", f"/api-keys/{masked}", "Logging error")]
    assert seen == [True, True, False]
    assert [piece for piece in life.pieces() if piece in log] == []
