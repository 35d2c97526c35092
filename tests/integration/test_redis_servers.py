"""The Redis servers that other tests start."""

import pytest
import redis
from tests.processes import free_port
from tests.redis_servers import ONCE, RedisServer, StartRedis, running_redis


def test_port_and_socket(redis_server: RedisServer) -> None:
    """Port and socket reach the same server."""
    with redis.Redis.from_url(redis_server.url) as by_port, redis.Redis.from_url(redis_server.socket_url) as by_socket:
        by_port.set("k", "v")

        assert by_socket.get("k") == b"v"


@pytest.mark.parametrize("_", range(2))
def test_shared_server_is_empty(redis_server: RedisServer, _: int) -> None:
    """No key of an earlier test is left on the shared server."""
    with redis_server.client() as client:
        before = client.dbsize()
        client.set("left", "behind")

    assert before == 0


def test_tls(start_redis: StartRedis) -> None:
    """Only a client that trusts the authority can connect."""
    server = start_redis(tls=True)

    with (
        redis.Redis.from_url(server.url, ssl_ca_certs=str(server.ca)) as trusting,
        redis.Redis.from_url(server.url, retry=ONCE) as strange,
    ):
        assert trusting.ping()
        with pytest.raises(redis.ConnectionError, match="certificate"):
            strange.ping()


def test_password_and_users(start_redis: StartRedis) -> None:
    """The password is the default user's; another user may do what the ACL says."""
    server = start_redis(password="secret", users=["alice on >hers ~awx:* +@all"])

    with server.client(password=None) as nobody, pytest.raises(redis.AuthenticationError):
        nobody.ping()
    with server.client(username="alice", password="hers") as alice, pytest.raises(redis.exceptions.NoPermissionError):
        alice.set("other", "v")
    with redis.Redis.from_url(server.url) as client:
        assert client.ping()


def test_replica(start_redis: StartRedis) -> None:
    """A replica has its primary's data and accepts no writes."""
    master = start_redis()
    replica = start_redis(replica_of=master)

    with master.client() as told, replica.client() as asked:
        told.set("k", "v")
        told.wait(1, 5_000)

        assert asked.get("k") == b"v"
        with pytest.raises(redis.ReadOnlyError):
            asked.set("k", "w")


def test_start_failure(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The failure contains the server's log."""
    with (
        pytest.raises(pytest.fail.Exception, match="nonsense"),
        running_redis(tmp_path_factory.mktemp("redis"), options=["--nonsense yes"]),
    ):
        pass


def test_missing_binary(monkeypatch: pytest.MonkeyPatch, start_redis: StartRedis) -> None:
    """Without redis-server the failure says what to install."""
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(pytest.fail.Exception, match="redis-server is needed"):
        start_redis(port=free_port())
