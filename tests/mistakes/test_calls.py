"""Wrong arguments of a limiter's methods and of a Caller."""

from tests.mistakes.cases import Mistake, assert_refused, each

from awx_ratelimit import InvalidLimit

MISTAKES: list[Mistake] = [
    (
        'limiter.acquire("u", "starter")',
        TypeError,
        "plan: expected a Plan, got 'starter' (str); write table.resolve(Caller(subject, 'starter'))",
    ),
    (
        'asyncio.run(async_limiter.acquire("u", table))',
        TypeError,
        'plan: expected a Plan, got a PlanTable; write Plan.of("api", per_minute=60)',
    ),
    (
        'limiter.peek("u", None)',
        TypeError,
        'plan: expected a Plan, got None (NoneType); write Plan.of("api", per_minute=60)',
    ),
    (
        'limiter.acquire(STARTER, "u")',
        TypeError,
        "subject: expected a non-empty string, got a Plan; write acquire(subject, plan)",
    ),
    (
        'limiter.acquire("u", STARTER, 1.0)',
        ValueError,
        "cost: expected an integer >= 1, got 1.0",
    ),
    (
        'Claim("u", STARTER, -1)',
        InvalidLimit,
        "cost: expected an integer >= 0, got -1",
    ),
    (
        'Caller("u", 5)',
        TypeError,
        "plan: expected a Plan, the name of one, or None for the default, got 5 (int)",
    ),
    (
        'Caller("u", account=7)',
        TypeError,
        'account: expected a non-empty string, got 7 (int); write f"user_{user.id}"',
    ),
    (
        'Caller("u", account="")',
        TypeError,
        "account: expected a non-empty string, got '' (str); write f\"user_{user.id}\"",
    ),
    (
        'table.resolve(Caller("u", overrides=[("per_minute", 5)]))',
        InvalidLimit,
        "caller: overrides: expected a table with the keys <name>, got [('per_minute', 5)]",
    ),
    (
        'limiter.limited("5/minute;100/hour")',
        InvalidLimit,
        "limit: expected one rate, got 2 in '5/minute;100/hour'; write Plan('limits', (Rate.parse('5/minute'), "
        "Rate.parse('100/hour'))), or one decorator for each",
    ),
    (
        'limiter.limited("5/minute", key="u")',
        TypeError,
        "Limiter.limited: got the unknown option 'key'; write subject='name', or subject=function: it returns the "
        "subject of a call",
    ),
    (
        'async_limiter.limited("5/minute", subjec="u")',
        TypeError,
        "AsyncLimiter.limited: got the unknown option 'subjec'; write subject",
    ),
    (
        'limiter.release("u")',
        TypeError,
        "decision: expected what `acquire` returned, got 'u' (str); write release(decision)",
    ),
    (
        "limiter.release(None)",
        TypeError,
        "decision: expected what `acquire` returned, got None (NoneType); write release(decision)",
    ),
    (
        "Limiter(GuardedBackend(MemoryBackend())).release(5)",
        TypeError,
        "decision: expected what `acquire` returned, got 5 (int); write release(decision)",
    ),
    (
        'limiter.release(async_limiter.acquire("u", STARTER))',
        TypeError,
        "acquire(...) was not awaited; write `await limiter.acquire(...)`",
    ),
    (
        "asyncio.run(async_limiter.release(plan))",
        TypeError,
        "decision: expected what `acquire` returned, got a Plan; write release(decision)",
    ),
    (
        "limiter.refund(True)",
        TypeError,
        "decision: expected what `acquire` returned, got True (bool); write refund(decision)",
    ),
    (
        'limiter.settle("u", 5)',
        TypeError,
        "decision: expected what `acquire` returned, got 'u' (str); write settle(decision, cost)",
    ),
    (
        'limiter.acquire("u", STARTER, also=[("acme", plan)])',
        TypeError,
        "also: expected a list of Budgets, got one with a tuple; write also=[Budget('acme', plan, scope='account')]",
    ),
    (
        'asyncio.run(async_limiter.refund("u"))',
        TypeError,
        "decision: expected what `acquire` returned, got 'u' (str); write refund(decision)",
    ),
    (
        'limiter.hold("u", STARTER).allowed',
        AttributeError,
        "hold(...) is not a decision; write `with limiter.hold(...) as decision:` and look at `decision.allowed`",
    ),
    (
        'async_limiter.hold("u", STARTER).allowed',
        AttributeError,
        "hold(...) is not a decision; write `async with limiter.hold(...) as decision:` and look at `decision.allowed`",
    ),
]


@each(MISTAKES)
def test_mistake(mistake: Mistake) -> None:
    """A wrong call of a limiter, or a wrong Caller, is refused."""
    assert_refused(mistake)
