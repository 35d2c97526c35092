"""Replies of a server that cannot be trusted: whatever is no reply is an error, and nothing grows without a bound."""

import pytest
from redis import exceptions

from awx_ratelimit.backends.redis import replies
from awx_ratelimit.backends.redis.replies import ReplyReader, reply_error


def reader(count: int) -> ReplyReader:
    new = ReplyReader()
    new.begin(count)
    return new


def test_split_frames() -> None:
    """Replies may arrive in any pieces."""
    sent = b"$3\r\na\r\n\r\n:7\r\n-ERR no\r\n$-1\r\n%1\r\n$1\r\nk\r\n#t\r\n"
    reading = reader(5)

    complete = [reading.feed(sent[at : at + 1]) for at in range(len(sent))]

    *others, refusal, nothing, fields = reading.replies
    assert complete.index(True) == len(sent) - 1
    assert others == [b"a\r\n", 7]
    assert isinstance(refusal, exceptions.ResponseError)
    assert nothing is None
    assert fields == {b"k": True}


@pytest.mark.parametrize(
    "sent",
    [b"hello\r\n", b"\x16\x03\x01\x02\x00", b"$-5\r\n", b":12x\r\n", b"*-7\r\n", b"*4294967295\r\n"],
    ids=["no RESP", "TLS", "a negative length", "no number", "a negative count", "a huge count"],
)
def test_hostile_bytes(sent: bytes) -> None:
    """Whatever is no reply is a RedisError of its own, at once."""
    with pytest.raises(exceptions.InvalidResponse):
        reader(1).feed(sent)


def test_replies_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endless reply is cut off. The bound is for one exchange."""
    monkeypatch.setattr(replies, "MAX_REPLY_BYTES", 100)
    reading = reader(1)
    reading.feed(b"$99999\r\n" + b"x" * 92)

    with pytest.raises(exceptions.InvalidResponse, match="more than 100 bytes"):
        reading.feed(b"x")
    for _ in range(3):
        reading = reader(1)
        assert reading.feed(b"$60\r\n" + b"x" * 60 + b"\r\n")


def test_unasked_data() -> None:
    """What follows the last reply is noticed, and what a server pushes is no reply."""
    reading = reader(1)

    assert not reading.feed(b">2\r\n+message\r\n+x\r\n")
    assert reading.feed(b":1\r\n:2\r\n")
    assert reading.replies == [1]
    assert reading.has_more()


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("NOSCRIPT No matching script.", exceptions.NoScriptError, "No matching script."),
        ("READONLY You can't write", exceptions.ReadOnlyError, "You can't write"),
        ("NOPERM no", exceptions.NoPermissionError, "no"),
        ("OOM command not allowed", exceptions.OutOfMemoryError, "command not allowed"),
        ("TRYAGAIN later", exceptions.TryAgainError, "later"),
        ("WRONGPASS invalid", exceptions.AuthenticationError, "invalid"),
        ("LOADING soon", exceptions.BusyLoadingError, "soon"),
        ("ERR max number of clients reached", exceptions.ConnectionError, "max number of clients reached"),
        ("ERR unknown command", exceptions.ResponseError, "unknown command"),
        ("WHAT is this", exceptions.ResponseError, "WHAT is this"),
        ("", exceptions.ResponseError, ""),
    ],
)
def test_errors_are_named(text: str, kind: type[Exception], said: str) -> None:
    """Errors have the classes and the texts that redis-py gives them."""
    error = reply_error(text)

    assert type(error) is kind
    assert str(error) == said


def test_redirects() -> None:
    """A redirect names a slot and an address; without them it is no reply."""
    moved = reply_error("MOVED 42 127.0.0.1:7001")

    assert isinstance(moved, exceptions.MovedError)
    assert (moved.slot_id, moved.host, moved.port) == (42, "127.0.0.1", 7001)
    for broken in ("MOVED", "MOVED x y", "ASK 1 nowhere", "MOVED 99999 127.0.0.1:1", "MOVED -1 127.0.0.1:1"):
        assert isinstance(reply_error(broken), exceptions.InvalidResponse), broken
