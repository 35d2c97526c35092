"""The memory backend compared with the reference model, on random histories."""

from typing import Any

from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from tests import strategies

from awx_ratelimit import Decision, InvalidLimit, Limiter, MemoryBackend, Plan, PlanTable, Rate
from awx_ratelimit.core.bucket import convert_debt, drained, wait_ms
from awx_ratelimit.core.decide import decide
from awx_ratelimit.testing import ManualClock
from awx_ratelimit.testing.backend_laws.reference_model import Model, as_expected


class Laws(RuleBasedStateMachine):
    """Plan changes, clocks that step back, costs, releases and resets: the decisions equal the model's."""

    @initialize(plans=st.lists(strategies.plans(), min_size=1, max_size=4))
    def begin(self, plans: list[Plan]) -> None:
        self.clock = ManualClock(1_700_000_000_000)
        self.limiter = Limiter(MemoryBackend(clock=self.clock))
        self.model = Model()
        self.plans = plans
        self.open: list[Decision] = []
        self.charged: list[Decision] = []

    def _asked(self, choice: int, share: float) -> tuple[Plan, int]:
        plan = self.plans[choice % len(self.plans)]
        return plan, max(1, int(share * min(plan.max_cost, 60)))

    @rule(choice=st.integers(0, 3), share=st.floats(0, 1))
    def claim(self, choice: int, share: float) -> None:
        plan, cost = self._asked(choice, share)
        decision = self.limiter.acquire("s", plan, cost)
        assert as_expected(decision) == self.model.acquire(plan, cost, self.clock.now_ms())
        if decision.lease:
            self.open.append(decision)
        if decision.allowed:
            self.charged.append(decision)

    @rule(choice=st.integers(0, 3), share=st.floats(0, 1))
    def look(self, choice: int, share: float) -> None:
        plan, cost = self._asked(choice, share)
        decision = self.limiter.peek("s", plan, cost)
        assert as_expected(decision) == self.model.peek(plan, cost, self.clock.now_ms())

    @rule(ms=strategies.times_ms)
    def pass_time(self, ms: int) -> None:
        self.clock.advance(ms)

    @precondition(lambda self: self.open)
    @rule(choice=st.integers(0, 9), twice=st.booleans())
    def give_back(self, choice: int, twice: bool) -> None:
        decision = self.open.pop(choice % len(self.open))
        for _ in range(1 + twice):
            self.limiter.release(decision)
        self.model.release()

    @precondition(lambda self: self.charged)
    @rule(choice=st.integers(0, 9), twice=st.booleans())
    def refund(self, choice: int, twice: bool) -> None:
        decision = self.charged.pop(choice % len(self.charged))
        for _ in range(1 + twice):
            self.limiter.refund(decision)
        given = (decision.plan, decision.cost, decision.exceeded, decision.decided_at_ms)
        self.model.refund(*given, self.clock.now_ms())

    @rule()
    def reset(self) -> None:
        self.limiter.reset("s")
        self.model.reset()


TestLaws = Laws.TestCase
TestLaws.settings = strategies.with_examples(150, stateful_step_count=40)


@example(rate=Rate("minute", 1, 60_000), debt=0, ago_ms=-5)
@given(rate=strategies.rates("minute"), debt=st.integers(0), ago_ms=st.integers(-10, 10**8))
def test_inlined_debt(rate: Rate, debt: int, ago_ms: int) -> None:
    """The debt that `charge` computes inline equals that of `owed`."""
    plan, now_ms = Plan("p", (rate,)), 1_700_000_000_000
    state = (min(debt, rate.capacity), now_ms - ago_ms)

    over, levels = decide(plan, state, 0, 1, now_ms)

    expected, since_ms = drained(rate, *state, now_ms)
    assert levels == [expected if over else expected + rate.unit, since_ms]


@given(
    rates=st.tuples(strategies.rates("minute"), strategies.rates("day")),
    debts=st.tuples(st.integers(0), st.integers(0)),
    ago_ms=st.tuples(st.integers(-10, 10**8), st.integers(-10, 10**8)),
    cost=st.integers(0, 60),
)
def test_two_rates(rates: tuple[Rate, Rate], debts: tuple[int, int], ago_ms: tuple[int, int], cost: int) -> None:
    """Two rates decided together are charged as each would be alone, on the fast and on the general path."""
    plan, now_ms = Plan("p", rates), 1_700_000_000_000
    states = [(min(debt, rate.capacity), now_ms - ago) for rate, debt, ago in zip(rates, debts, ago_ms, strict=True)]
    (over, first), (over_2, second) = (
        decide(Plan("p", (rate,)), state, 0, cost, now_ms) for rate, state in zip(rates, states, strict=True)
    )

    together, levels = decide(plan, [*states[0], *states[1]], 0, cost, now_ms)

    assert together == over | over_2 << 1
    if not over | over_2:
        assert levels == [*first, *second]


@given(rate=strategies.rates("minute"), debt=st.integers(0), cost=st.integers(1, 60))
def test_wait_is_exact(rate: Rate, debt: int, cost: int) -> None:
    """After the wait the claim is admitted, and a millisecond earlier it is not."""
    now_ms, debt, cost = 1_700_000_000_000, min(debt, rate.capacity), min(cost, rate.burst)
    promised_ms = wait_ms(rate, debt, now_ms, now_ms, cost)

    fits = [
        drained(rate, debt, now_ms, now_ms + ms)[0] + cost * rate.unit <= rate.capacity
        for ms in (promised_ms - 1, promised_ms)
    ]
    assert fits == [False, True] if promised_ms else fits[1]


@given(
    rate=strategies.rates("minute"),
    debt=st.integers(0, 10**12),
    unit=st.integers(1, 10**9),
    capacity=st.integers(1, 10**12),
)
def test_converted_debt(rate: Rate, debt: int, unit: int, capacity: int) -> None:
    """A debt in another unit is the least that is not below the old one, and at most the capacity."""
    assume((unit, capacity) != (rate.unit, rate.capacity))

    made = convert_debt(rate, debt, unit, capacity)

    assert 0 <= made <= rate.capacity
    assert made == rate.capacity or made * unit >= debt * rate.unit > (made - 1) * unit


@given(rate=strategies.rates("minute"), debt=st.integers(0, 10**12))
def test_debt_in_the_same_unit(rate: Rate, debt: int) -> None:
    """A debt that is counted equally does not change, not even an overdraft."""
    assert convert_debt(rate, debt, rate.unit, rate.capacity) == debt


_SCALARS: Any = st.none() | st.booleans() | st.integers(-5, 10**20) | st.floats() | st.text(max_size=8)
_KEYS = st.sampled_from(
    ["default", "plans", "overrides", "per_minute", "per_day", "rates", "concurrent", "limit", "slots", "a"]
)
_TABLES: Any = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4)
)


@given(_TABLES)
def test_any_mapping(mapping: Any) -> None:
    """Any mapping is a valid table or raises InvalidLimit, and never another error."""
    try:
        PlanTable.from_mapping(mapping)
    except InvalidLimit as error:
        assert str(error).startswith("plan table")  # noqa: PT017
