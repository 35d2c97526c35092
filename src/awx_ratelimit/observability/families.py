"""The metrics that the exporters publish: names, units, labels and buckets.

Names and attributes follow the semantic conventions of OpenTelemetry for ``aspnetcore.rate_limiting.*``. No label ever
contains a subject, a key, a path or an address.
"""

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

#: A lease lasts as long as the response, so the upper buckets hold streams and WebSockets.
_DURATIONS_S: Final = (
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30, 60, 300, 1_800,
)  # fmt: skip
_CALLS_S: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)


class Family(NamedTuple):
    """One metric. `name` is the name in OpenTelemetry; `bounds` are those of a histogram, in `unit`."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    description: str
    labels: tuple[str, ...]
    bounds: Sequence[float] = ()


REQUESTS: Final = Family(
    "awx_ratelimit.requests",
    "counter",
    "{request}",
    "Claims by outcome: allowed, refused, shadow (allowed, but a shadow limit would have refused), fallback"
    " (allowed without the backend), unavailable (not decided)",
    ("plan", "outcome"),
)
REFUSALS: Final = Family(
    "awx_ratelimit.refusals",
    "counter",
    "{refusal}",
    "Limits that refused a claim, or would have (outcome shadow). One claim may be refused by several limits",
    ("plan", "scope", "limit", "outcome"),
)
ACTIVE_LEASES: Final = Family(
    "awx_ratelimit.active_request_leases",
    "gauge",
    "{lease}",
    "Leases that this process holds: requests that occupy a slot",
    ("plan",),
)
LEASE_DURATION: Final = Family(
    "awx_ratelimit.request_lease.duration",
    "histogram",
    "s",
    "How long leases were held. While more than 100 begin in a second, one in 16 is measured",
    ("plan",),
    _DURATIONS_S,
)
QUEUED: Final = Family(
    "awx_ratelimit.queued_requests", "gauge", "{request}", "Claims of this process that wait for room", ()
)
TIME_IN_QUEUE: Final = Family(
    "awx_ratelimit.request.time_in_queue",
    "histogram",
    "s",
    "How long claims with wait_ms waited, by outcome: allowed, refused",
    ("plan", "outcome"),
    _DURATIONS_S,
)
SETTLEMENTS: Final = Family(
    "awx_ratelimit.settlements",
    "counter",
    "{settlement}",
    "Claims that were settled or given back, by direction: more, less, same",
    ("plan", "direction"),
)
BACKEND_DURATION: Final = Family(
    "awx_ratelimit.backend.duration",
    "histogram",
    "s",
    "How long calls of the backend's server took. One call carries many claims",
    ("backend",),
    _CALLS_S,
)
OPEN_BREAKERS: Final = Family(
    "awx_ratelimit.circuit_breakers.open",
    "gauge",
    "{server}",
    "Servers of the backend whose circuit breaker is open",
    (),
)
OUTAGES: Final = Family("awx_ratelimit.outages", "counter", "{outage}", "How often a circuit breaker opened", ())
LOCAL_DECISIONS: Final = Family(
    "awx_ratelimit.fallback_decisions", "counter", "{decision}", "Decisions made without the backend", ()
)
KEY_VERIFICATIONS: Final = Family(
    "awx_ratelimit.key_verifications",
    "counter",
    "{verification}",
    "API keys by outcome: accepted, or the code of the refusal",
    ("outcome",),
)
FAMILIES: Final = (
    REQUESTS, REFUSALS, ACTIVE_LEASES, LEASE_DURATION, QUEUED, TIME_IN_QUEUE, SETTLEMENTS, BACKEND_DURATION,
    OPEN_BREAKERS, OUTAGES, LOCAL_DECISIONS, KEY_VERIFICATIONS,
)  # fmt: skip
