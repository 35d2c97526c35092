"""The servers that the tests of Redis stand on."""

import pytest
import redis
from tests.processes import free_port
from tests.redis_servers import ONCE, RedisServer, StartRedis, running_redis


def test_a_server_answers_on_its_port_and_on_its_socket(redis_server: RedisServer) -> None:
    """What is written over the one is read over the other."""
    with redis.Redis.from_url(redis_server.url) as by_port, redis.Redis.from_url(redis_server.socket_url) as by_socket:
        by_port.set("k", "v")

        assert by_socket.get("k") == b"v"


@pytest.mark.parametrize("_", range(2))
def test_each_test_finds_the_shared_server_empty(redis_server: RedisServer, _: int) -> None:
    """No key of an earlier test is left."""
    with redis_server.client() as client:
        before = client.dbsize()
        client.set("left", "behind")

    assert before == 0


def test_a_server_with_tls_is_who_its_certificate_says(start_redis: StartRedis) -> None:
    """A client that trusts the authority gets through, and one that does not gets nowhere."""
    server = start_redis(tls=True)

    with (
        redis.Redis.from_url(server.url, ssl_ca_certs=str(server.ca)) as trusting,
        redis.Redis.from_url(server.url, retry=ONCE) as strange,
    ):
        assert trusting.ping()
        with pytest.raises(redis.ConnectionError, match="certificate"):
            strange.ping()


def test_a_server_with_a_password_and_users_lets_in_who_has_one(start_redis: StartRedis) -> None:
    """The password is the default user's; another user may do what the ACL says."""
    server = start_redis(password="secret", users=["alice on >hers ~awx:* +@all"])

    with server.client(password=None) as nobody, pytest.raises(redis.AuthenticationError):
        nobody.ping()
    with server.client(username="alice", password="hers") as alice, pytest.raises(redis.exceptions.NoPermissionError):
        alice.set("other", "v")
    with redis.Redis.from_url(server.url) as client:
        assert client.ping()


def test_a_replica_follows_its_master(start_redis: StartRedis) -> None:
    """What the master was told, the replica says, and it takes no orders of its own."""
    master = start_redis()
    replica = start_redis(replica_of=master)

    with master.client() as told, replica.client() as asked:
        told.set("k", "v")
        told.wait(1, 5_000)

        assert asked.get("k") == b"v"
        with pytest.raises(redis.ReadOnlyError):
            asked.set("k", "w")


def test_a_server_that_cannot_start_says_why(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The log stands in the failure."""
    with (
        pytest.raises(pytest.fail.Exception, match="nonsense"),
        running_redis(tmp_path_factory.mktemp("redis"), options=["--nonsense yes"]),
    ):
        pass


def test_without_the_binary_the_failure_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, start_redis: StartRedis
) -> None:
    """A machine without redis-server fails, and is told why."""
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(pytest.fail.Exception, match="redis-server is needed"):
        start_redis(port=free_port())
