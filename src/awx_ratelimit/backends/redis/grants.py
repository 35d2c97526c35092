"""What a process on Redis knows of one claim that was admitted, and of the lease that came with it."""

from weakref import ref

from awx_ratelimit.backends.redis.codec import PendingClaim


class Grant:
    """What was granted to one admitted claim, and by whom, for as long as its Decision lives."""

    __slots__ = ("__weakref__", "granted_by", "refunded", "since_ms")

    def __init__(self, granted_by: object, since_ms: int | None) -> None:
        self.granted_by = granted_by
        self.refunded = False
        #: From when on its lease is held; None where that is not measured.
        self.since_ms = since_ms


class Open(ref[Grant]):
    """An open lease, until its grant is collected."""

    __slots__ = ("asked", "granted_at_ms")

    asked: PendingClaim
    granted_at_ms: int


class Lapsing:
    """A lease that nobody has, as far as is known."""

    __slots__ = ("lapses_at_ms", "subject", "ttl_ms")

    def __init__(self, subject: str, ttl_ms: int) -> None:
        self.subject = subject
        self.ttl_ms = ttl_ms
        self.lapses_at_ms: int | None = None
