"""Reads the replies of a server, and names their errors as redis-py does.

What the server sends is checked here: a reply that is no RESP, or too long, ends the connection.
"""

from contextlib import suppress
from typing import Any, Final

from hiredis import PushNotification, Reader
from redis import exceptions
from redis.crc import REDIS_CLUSTER_HASH_SLOTS
from redis.exceptions import ConnectionError as RedisConnectionError

#: The longest replies of one exchange: a thousand times those of the largest batch.
MAX_REPLY_BYTES: Final = 64 * 2**20
CLOSED: Final = "the server closed the connection"
_MORE: Final = object()
_SLOTS: Final = range(REDIS_CLUSTER_HASH_SLOTS)
_ERRORS: dict[str, type[exceptions.RedisError]] = {
    "OOM": exceptions.OutOfMemoryError,
    "WRONGPASS": exceptions.AuthenticationError,
    "LOADING": exceptions.BusyLoadingError,
    "NOSCRIPT": exceptions.NoScriptError,
    "READONLY": exceptions.ReadOnlyError,
    "NOAUTH": exceptions.AuthenticationError,
    "NOPERM": exceptions.NoPermissionError,
    "ASK": exceptions.AskError,
    "TRYAGAIN": exceptions.TryAgainError,
    "MOVED": exceptions.MovedError,
    "CLUSTERDOWN": exceptions.ClusterDownError,
    "CROSSSLOT": exceptions.ClusterCrossSlotError,
    "MASTERDOWN": exceptions.MasterDownError,
}
#: Errors with the code ERR, by the beginning of their text.
_PLAIN_ERRORS: dict[str, type[exceptions.RedisError]] = {
    "max number of clients reached": RedisConnectionError,
    "invalid password": exceptions.AuthenticationError,
    "Client sent AUTH, but no password is set": exceptions.AuthenticationError,
    "AUTH <password> called without any password configured": exceptions.AuthenticationError,
}


def reply_error(text: str) -> exceptions.RedisError:
    """The error that a server replied with."""
    code, _, rest = text.partition(" ")
    if code == "ERR":
        kinds = [kind for start, kind in _PLAIN_ERRORS.items() if rest.startswith(start)]
        return (kinds or [exceptions.ResponseError])[0](rest)
    kind = _ERRORS.get(code)
    if kind is None:
        return exceptions.ResponseError(text)
    with suppress(ValueError):
        error = kind(rest)
        if not isinstance(error, exceptions.AskError) or error.slot_id in _SLOTS:
            return error
    # A redirect without a slot or an address.
    return exceptions.InvalidResponse(f"Protocol Error: {text[:100]!r}")


class ReplyReader:
    """Reads the replies of one exchange after another, in order."""

    __slots__ = ("_count", "_feed", "_gets", "_has_data", "_received", "replies")

    def __init__(self) -> None:
        reader = Reader(protocolError=exceptions.InvalidResponse, replyError=reply_error, notEnoughData=_MORE)
        self._feed, self._gets, self._has_data = reader.feed, reader.gets, reader.has_data
        self.replies: list[Any] = []
        self.begin(0)

    def begin(self, count: int) -> None:
        """Expect `count` replies."""
        self.replies = []
        self._count = count
        self._received = 0

    def feed(self, data: bytes) -> bool:
        """Take what the server has sent. Returns whether all replies are there; refusals are ResponseErrors.

        Raises another RedisError if the server does not serve this client, or does not speak RESP.
        """
        self._received += len(data)
        if self._received > MAX_REPLY_BYTES:
            raise exceptions.InvalidResponse(f"Protocol Error: a reply has more than {MAX_REPLY_BYTES} bytes")
        replies, gets, count = self.replies, self._gets, self._count
        try:
            self._feed(data)
            while len(replies) < count:
                reply = gets()
                if reply.__class__ is bytes:
                    replies.append(reply)
                elif reply is _MORE:
                    return False
                elif isinstance(reply, exceptions.RedisError) and not isinstance(reply, exceptions.ResponseError):
                    raise reply
                elif not isinstance(reply, PushNotification):
                    replies.append(reply)
        except MemoryError as error:
            raise exceptions.InvalidResponse("Protocol Error: a reply is too large") from error
        return True

    def has_more(self) -> bool:
        """Whether the server has sent something that nothing asked for."""
        return bool(self._has_data())
