"""Redis as a kind of server: see Dialect."""

from typing import Final

from awx_ratelimit.backends.redis.codec import Codec
from awx_ratelimit.backends.redis.connection import AsyncConnection
from awx_ratelimit.backends.redis.connection_sync import Connection
from awx_ratelimit.backends.redis.doctor import self_test_calls
from awx_ratelimit.backends.remote.dialect import Dialect

REDIS: Final = Dialect(
    "redis",
    "AsyncRedisBackend",
    Codec,
    Connection,
    AsyncConnection,
    self_test_calls,
    is_reply=lambda reply: isinstance(reply, bytes),
)
