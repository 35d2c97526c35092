"""A guard around a backend that may fail: it bounds the cost of an outage, keeps limiting, and logs it.

While the backend is unavailable, `on_outage` decides:

    local    each process decides with its share of each limit. Together they admit at most the limit times the number
             of processes over `expected_workers`, plus one token per process, plus what the backend had admitted before
    open     everything is allowed, and no slot is taken
    closed   nothing is allowed: BackendUnavailable, which a gate answers with 503
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from awx_ratelimit.backends.base import AsyncBackend, Backend, SettlesSoon
from awx_ratelimit.backends.reports import BackendObserver, OutageCounts
from awx_ratelimit.backends.resilience.expected_workers import ExpectedWorkers
from awx_ratelimit.backends.resilience.fallback import Fallback
from awx_ratelimit.backends.resilience.outage_log import OnOutage
from awx_ratelimit.backends.resilience.wrapper import AsyncWrapper
from awx_ratelimit.backends.validation import checked_async_backend
from awx_ratelimit.core.budget import Record
from awx_ratelimit.core.claim import checked_claim, checked_subject
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.joint_claim import JointClaim
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.settlement import NOTHING, ActualCost
from awx_ratelimit.errors import BackendUnavailable
from awx_ratelimit.runtime.task_deadlines import TaskDeadlines

_UNAVAILABLE = (BackendUnavailable, TimeoutError)


class AsyncGuardedBackend(AsyncWrapper):
    """Guards `backend`, for the tasks of event loops. It takes any backend that AsyncLimiter accepts.

    After five consecutive failures, or a 50 % error rate, the circuit breaker opens; single probes close it again.
    Claims that travel in one call count as one.

    A claim waits up to `budget_ms` for the backend. Delays of this process, such as a blocked event loop or threads
    that wait for their turn, are added to the budget and are not failures of the backend.

    If the backend has several servers, as a cluster has, it has a method ``home(record)``, and each server has its own
    circuit breaker. A claim of budgets on several servers needs all of them: if one has an outage, or fails the claim,
    the whole claim is decided by `on_outage`, and a failure counts for each of these servers. If the data of one record
    is corrupt (StateDamaged), only claims of that record fall back to `on_outage`.

    `expected_workers` is the number of processes that share the limits. If the server that has started this process has
    more workers, a warning is logged.

    Raises InvalidLimit for a wrong value, and TypeError for a backend of the other kind.
    """

    checks_claims: ClassVar[bool] = True
    needs_asyncio: ClassVar[bool] = True

    def __init__(
        self,
        backend: AsyncBackend | Backend,
        *,
        on_outage: OnOutage = "local",
        expected_workers: int = 1,
        budget_ms: int = 50,
    ) -> None:
        self.backend = checked_async_backend(backend, "AsyncGuardedBackend")
        self._fallback = Fallback(self.backend, on_outage, expected_workers, budget_ms)
        self._expected_workers = ExpectedWorkers(on_outage, expected_workers)
        self._deadlines = TaskDeadlines(budget_ms / 1000)

    async def acquire(self, subject: str, plan: Plan, cost: int) -> Decision:
        subject, plan, cost = checked_claim(subject, plan, cost)
        return await self._decide((subject,), self.backend.acquire, self._fallback.acquire, (subject, plan, cost))

    async def peek(self, subject: str, plan: Plan, cost: int) -> Decision:
        subject, plan, cost = checked_claim(subject, plan, cost)
        return await self._decide((subject,), self.backend.peek, self._fallback.peek, (subject, plan, cost))

    async def acquire_joint(self, claim: JointClaim) -> Decision:
        return await self._decide(claim.records, self.backend.acquire_joint, self._fallback.acquire_joint, (claim,))

    async def peek_joint(self, claim: JointClaim) -> Decision:
        return await self._decide(claim.records, self.backend.peek_joint, self._fallback.peek_joint, (claim,))

    async def _decide(
        self,
        records: Sequence[Record],
        decide: Callable[..., Any],
        decide_locally: Callable[..., Decision],
        claim: tuple[Any, ...],
    ) -> Decision:
        tickets = self._fallback.permit(records)
        if tickets is None:
            return decide_locally(*claim)
        try:
            with self._deadlines.begin():
                decision: Decision = await decide(*claim)
        except _UNAVAILABLE as error:
            return decide_locally(*claim, self._fallback.on_failure(tickets, error))
        except BaseException:
            self._fallback.on_no_result(tickets)
            raise
        self._fallback.on_success(tickets, self.backend)
        return decision

    def observe(self, observer: BackendObserver) -> None:
        """See `Observable`. The backend is observed by its own method."""
        self._fallback.local.observe(observer)

    def outage_counts(self) -> OutageCounts:
        """See `CountsOutages`."""
        return self._fallback.counts()

    def release(self, decision: Decision) -> None:
        if self._fallback.decided(decision):
            self._fallback.release(decision, self.backend)
        else:
            self.backend.release(decision)

    async def refund(self, decision: Decision) -> bool:
        return await self.settle(decision, NOTHING)

    async def settle(self, decision: Decision, actual: ActualCost) -> bool:
        """See Backend. Never raises BackendUnavailable: what the backend does not take now, it gets after the outage.

        Settles a local decision locally, and adds what it cost more to the backend later.
        """
        tickets = self._fallback.permit_settlement(decision, actual)
        if isinstance(tickets, bool):
            return tickets
        try:
            with self._deadlines.begin():
                is_first: bool = await self.backend.settle(decision, actual)
                return is_first
        except _UNAVAILABLE as error:
            damaged = self._fallback.on_failure(tickets, error)
            return self._fallback.late.add(decision, actual, damaged)
        except Exception:
            raise
        except BaseException:
            self._fallback.late.add(decision, actual)
            raise

    def settle_soon(
        self, decision: Decision, actual: ActualCost, failed: Callable[[BackendUnavailable], None]
    ) -> bool | None:
        """See SettlesSoon. `failed` is never called: what the backend does not take, it gets after the outage."""
        del failed
        if not isinstance(self.backend, SettlesSoon):
            return None
        tickets = self._fallback.permit_settlement(decision, actual)
        if isinstance(tickets, bool):
            return tickets

        def settle_late(error: BackendUnavailable) -> None:
            self._fallback.late.add(decision, actual, self._fallback.on_failure(tickets, error))

        return self.backend.settle_soon(decision, actual, settle_late)

    async def reset(self, subject: str, scope: str | None = None) -> bool:
        """See Backend. Also clears what was decided locally."""
        subject = checked_subject(subject)
        found = self._fallback.reconciliation.reset(subject, scope)
        answer: bool = await self.backend.reset(subject, scope)
        return found or answer

    async def close(self) -> None:
        """See Backend. Settlements that an outage has kept from the backend are lost; they are logged and counted."""
        self._fallback.late.drop()
        await self.backend.close()

    async def health(self) -> Mapping[str, Any]:
        """The health of the backend, the number of outages, and the decisions made without it in the latest one."""
        return self._fallback.health(await self.backend.health() if self._fallback.is_idle else {})
