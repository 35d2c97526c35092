"""Wrong arguments of plans and limits."""

from tests.mistakes.cases import Mistake, assert_refused, each

from awx_ratelimit import InvalidLimit

MISTAKES: list[Mistake] = [
    (
        'Plan.of("p", "60/minute")',
        TypeError,
        "Plan.of takes each limit as a keyword argument, got '60/minute'; write Plan.of('p', per_minute=60)",
    ),
    (
        'Plan.of("p", 60)',
        TypeError,
        "Plan.of takes each limit as a keyword argument, got 60; write Plan.of('p', per_minute=60)",
    ),
    (
        'Plan.of("p")',
        InvalidLimit,
        "plan 'p' has no limit; add a Rate or a Concurrency, or write Plan.unlimited('p')",
    ),
    (
        'Plan.of("p", per_minute="60")',
        InvalidLimit,
        "minute: tokens: expected an integer >= 1, got '60'",
    ),
    (
        'Plan.of("p", per_minute=60.0)',
        InvalidLimit,
        "minute: tokens: expected an integer >= 1, got 60.0",
    ),
    (
        'Plan.of("p", concurrent=True)',
        InvalidLimit,
        "concurrent: slots: expected an integer >= 1, got True",
    ),
    (
        'Plan("p", "60/minute")',
        InvalidLimit,
        "plan 'p': rates: expected a tuple of Rate objects, got '60/minute'; write rates=(Rate.parse('60/minute'),)",
    ),
    (
        'Plan("p", Rate.parse("60/minute"))',
        InvalidLimit,
        "plan 'p': rates: expected a tuple of Rate objects, got a Rate; write rates=(Rate.parse('60/minute'),)",
    ),
    (
        'Plan("p", ("60/minute",))',
        InvalidLimit,
        "plan 'p': rates[0]: expected a Rate, got '60/minute'; write Rate.parse('60/minute')",
    ),
    (
        'Plan("p", (Rate.parse("60/minute"),), 5)',
        InvalidLimit,
        "plan 'p': concurrency: expected a Concurrency or None, got 5; write Concurrency(5)",
    ),
    (
        'Plan("p", (Rate.parse("60/minute"),), shadow="yes")',
        InvalidLimit,
        "plan 'p': shadow: expected true or false, got 'yes'",
    ),
    (
        'Plan("", (Rate.parse("60/minute"),))',
        InvalidLimit,
        "a plan's name: expected a non-empty string, got ''",
    ),
    (
        'Rate("60/minute")',
        InvalidLimit,
        "a limit's name: expected 1 to 32 of a-z, 0-9, '_' and '-', got '60/minute'; write Rate.parse('60/minute')",
    ),
    (
        'Rate("minute")',
        InvalidLimit,
        "minute: tokens: expected an integer >= 1, got None",
    ),
    (
        'Rate("minute", 60.0, 60_000)',
        InvalidLimit,
        "minute: tokens: expected an integer >= 1, got 60.0",
    ),
    (
        'Rate("minute", True, 60_000)',
        InvalidLimit,
        "minute: tokens: expected an integer >= 1, got True",
    ),
    (
        'Rate("minute", 60, "1m")',
        InvalidLimit,
        "minute: period_ms: expected an integer >= 1, got '1m'",
    ),
    (
        'Rate.parse("60")',
        InvalidLimit,
        "expected one rate, such as '60/minute' or '100 per 2 hours', got '60'",
    ),
    (
        'Rate.parse("5/min")',
        InvalidLimit,
        "expected one rate, such as '60/minute' or '100 per 2 hours', got '5/min'; write '5/minute'",
    ),
    (
        'Rate("5r/s")',
        InvalidLimit,
        "a limit's name: expected 1 to 32 of a-z, 0-9, '_' and '-', got '5r/s'; write Rate.parse('5/second')",
    ),
    (
        "Rate.parse(60)",
        InvalidLimit,
        "expected one rate, such as '60/minute' or '100 per 2 hours', got 60",
    ),
    (
        'Rate.parse("5/minute;100/hour")',
        InvalidLimit,
        "expected one rate, such as '60/minute' or '100 per 2 hours', got '5/minute;100/hour'; write each of the 2 by "
        "itself",
    ),
    (
        "Rate(per_year=1_000)",
        TypeError,
        "Rate: got the unknown option 'per_year'; write Rate.parse('1000/year'), or Rate('year', 1000, period='year')",
    ),
    (
        'Rate("minute", requests=60, period_ms=60_000)',
        TypeError,
        "Rate: got the unknown option 'requests'; write tokens",
    ),
    (
        'Rate("minute", 60, perod_ms=60_000)',
        TypeError,
        "Rate: got the unknown option 'perod_ms'; write period_ms",
    ),
    (
        "Concurrency(5, ttl_seconds=9)",
        TypeError,
        "Concurrency: got the unknown option 'ttl_seconds'; write ttl_ms",
    ),
    (
        'Rule("/x", methds=["GET"])',
        TypeError,
        "Rule: got the unknown option 'methds'; write methods",
    ),
    (
        'Plan.of("p", per_year=1_000)',
        TypeError,
        "Plan.of: got the unknown option 'per_year'; write Plan(name, (Rate.parse('1000/year'),))",
    ),
    (
        'Plan("p", per_minute=60)',
        TypeError,
        "Plan: got the unknown option 'per_minute'; write Plan.of(name, per_minute=60)",
    ),
    (
        'Concurrency("5")',
        InvalidLimit,
        "concurrent: slots: expected an integer >= 1, got '5'",
    ),
    (
        "Concurrency(True)",
        InvalidLimit,
        "concurrent: slots: expected an integer >= 1, got True",
    ),
]


@each(MISTAKES)
def test_mistake(mistake: Mistake) -> None:
    """A plan or a limit with a wrong argument is refused when it is created."""
    assert_refused(mistake)
