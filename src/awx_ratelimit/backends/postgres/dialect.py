"""PostgreSQL as a kind of server: see Dialect."""

from typing import Any, Final

from awx_ratelimit.backends.postgres.codec import Codec
from awx_ratelimit.backends.postgres.connection import Connection
from awx_ratelimit.backends.postgres.schema import Call
from awx_ratelimit.backends.postgres.task_connection import AsyncConnection
from awx_ratelimit.backends.remote.dialect import Dialect
from awx_ratelimit.backends.remote.pending_claims import plain_as_joint
from awx_ratelimit.backends.remote.routing import Route
from awx_ratelimit.core.plan import Plan

_TEST_PLAN = Plan.of("trial", per_second=2)


def self_test_calls(route: Route, codec: Any, now_ms: int | None) -> list[tuple[str, Call]]:
    """Calls that charge, settle and reset a new subject, with the subject."""
    del route
    subject, lease_id = f"trial {codec.new_lease_id()}", codec.new_lease_id()
    joint = plain_as_joint(subject, _TEST_PLAN, 1, lease_id)
    declared = joint._replace(claim=joint.claim._replace(declared=True))
    calls = (
        codec.joint.acquire([declared], (), now_ms, 0),
        codec.joint.settle([(subject, ())], 0, lease_id, now_ms, ()),
        codec.reset(subject, (), now_ms),
    )
    return [(subject, call) for call in calls]


POSTGRES: Final = Dialect(
    "postgresql",
    "AsyncPostgresBackend",
    Codec,
    Connection,
    AsyncConnection,
    self_test_calls,
    is_reply=lambda reply: isinstance(reply, tuple),
)
