"""Wrong arguments of a limiter's methods and of a Caller."""

from tests.mistakes.cases import Mistake, assert_refused, each

from awx_ratelimit import InvalidLimit

MISTAKES: list[Mistake] = [
    (
        'limiter.acquire("u", "starter")',
        TypeError,
        "plan is 'starter' (str); use a Plan, or look one up: table.resolve(Caller(subject, 'starter'))",
    ),
    (
        'asyncio.run(async_limiter.acquire("u", table))',
        TypeError,
        'plan is a PlanTable; use a Plan such as STARTER or Plan.of("api", per_minute=60)',
    ),
    (
        'limiter.peek("u", None)',
        TypeError,
        'plan is None (NoneType); use a Plan such as STARTER or Plan.of("api", per_minute=60)',
    ),
    (
        'limiter.acquire(STARTER, "u")',
        TypeError,
        "subject is a Plan; put the subject first and the plan second: acquire(subject, plan)",
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
        "plan is 5 (int); use the name of a plan, a Plan, or None for the default",
    ),
    (
        'Caller("u", account=7)',
        TypeError,
        'account is 7 (int); use a string such as f"user_{user.id}"',
    ),
    (
        'Caller("u", account="")',
        TypeError,
        "account is '' (str); use a non-empty string such as f\"user_{user.id}\"",
    ),
    (
        'table.resolve(Caller("u", overrides=[("per_minute", 5)]))',
        InvalidLimit,
        "caller: overrides: expected a table with the keys <name>, got [('per_minute', 5)]",
    ),
    (
        'limiter.release("u")',
        TypeError,
        "decision is 'u' (str); pass what `acquire` returned: release(decision)",
    ),
    (
        "limiter.release(None)",
        TypeError,
        "decision is None (NoneType); pass what `acquire` returned: release(decision)",
    ),
    (
        "Limiter(GuardedBackend(MemoryBackend())).release(5)",
        TypeError,
        "decision is 5 (int); pass what `acquire` returned: release(decision)",
    ),
    (
        'limiter.release(async_limiter.acquire("u", STARTER))',
        TypeError,
        "acquire(...) was not awaited; write `await limiter.acquire(...)`",
    ),
    (
        "asyncio.run(async_limiter.release(plan))",
        TypeError,
        "decision is a Plan; pass what `acquire` returned: release(decision)",
    ),
    (
        "limiter.refund(True)",
        TypeError,
        "decision is True (bool); pass what `acquire` returned: refund(decision)",
    ),
    (
        'asyncio.run(async_limiter.refund("u"))',
        TypeError,
        "decision is 'u' (str); pass what `acquire` returned: refund(decision)",
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
