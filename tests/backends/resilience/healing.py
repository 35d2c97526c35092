"""A backend in memory that fails when it is told to, and charges what was decided without it, as Redis does."""

from collections.abc import Sequence
from typing import Any

from awx_ratelimit import BackendUnavailable, Budget, Decision, MemoryBackend
from awx_ratelimit.backends.base import LocalUsage
from awx_ratelimit.core.budget import Record, subject_of
from awx_ratelimit.core.joint_claim import JointClaim, joint_claim
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.settlement import ActualCost, charges


class Healing(MemoryBackend):
    """`fails` has the subjects whose server is gone; None stands for all. Each subject has a server."""

    fails: Sequence[str | None] = ()
    calls = 0

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.healed: set[tuple[bytes, Record, str]] = set()
        self.homes: dict[str, str] = {}

    def acquire(self, subject: str, plan: Plan, cost: int) -> Decision:
        self._call(subject)
        return super().acquire(subject, plan, cost)

    def acquire_joint(self, claim: JointClaim) -> Decision:
        self._call(*map(subject_of, claim.records))
        return super().acquire_joint(claim)

    def peek_joint(self, claim: JointClaim) -> Decision:
        self._call(*map(subject_of, claim.records))
        return super().peek_joint(claim)

    def settle(self, decision: Decision, actual: ActualCost) -> bool:
        self._call(*[subject_of(record) for record, _, _ in charges(decision)])
        return super().settle(decision, actual)

    def home(self, record: Record) -> object:
        """The server of a record."""
        return self.homes.get(subject_of(record))

    def heal(self, owed: Sequence[LocalUsage], heal_id: bytes) -> list[Decision]:
        """Add debts and leases. A second call with the same id adds nothing."""
        self._call(*[subject_of(record) for record, *_ in owed])
        assert len({self.home(record) for record, *_ in owed}) == 1
        leases = []
        for record, plan, debts, granted in owed:
            self._charge(heal_id, record, plan, debts)
            subject, scope = (record, None) if isinstance(record, str) else record
            claim = joint_claim((Budget(subject, plan, scope),), {"requests": 0})
            leases += [super(Healing, self).acquire_joint(claim) for _ in granted]
        return leases

    def _charge(self, heal_id: bytes, record: Record, plan: Plan, debts: Sequence[int]) -> None:
        subject, scope = (record, None) if isinstance(record, str) else record
        for rate, debt in zip(plan.rates, debts, strict=True):
            if debt and (heal_id, record, rate.name) not in self.healed:
                self.healed.add((heal_id, record, rate.name))
                one = Plan("healed", (rate,))
                tokens = -(-debt // rate.unit)
                decision = super().acquire_joint(joint_claim((Budget(subject, one, scope),), {rate.measure: 1}))
                super().settle(decision, {rate.measure: tokens})

    def _call(self, *subjects: str) -> None:
        self.calls += 1
        if None in self.fails or any(subject in self.fails for subject in subjects):
            raise BackendUnavailable("gone")
