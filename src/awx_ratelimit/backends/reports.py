"""What backends report beside their decisions, for metrics."""

from typing import NamedTuple, Protocol, runtime_checkable

from awx_ratelimit.core.plan import Plan


class BackendObserver(Protocol):
    """Follows what a backend does. Its methods must not wait or raise."""

    def held(self, plan: Plan, seconds: float) -> None:
        """A lease under `plan` has ended. At high rates only some leases are measured."""

    def called(self, backend: str, seconds: float) -> None:
        """A server of the backend has answered a call."""


@runtime_checkable
class Observable(Protocol):
    """This backend can report how long its leases were held and how long its server's calls took."""

    def observe(self, observer: BackendObserver) -> None:
        """Call `held` and `called` of `observer` from now on."""


class OutageCounts(NamedTuple):
    """The open circuit breakers now, and the outages and the decisions made without the backend so far."""

    open_breakers: int
    outages: int
    decisions: int


@runtime_checkable
class CountsOutages(Protocol):
    """This backend decides without another one while that is unavailable."""

    def outage_counts(self) -> OutageCounts:
        """What has happened in this process."""
