"""Wrong arguments of rules."""

from tests.mistakes.cases import Mistake, assert_refused, each

from awx_ratelimit import InvalidLimit

MISTAKES: list[Mistake] = [
    (
        'Rule("/static/*", exempt=True)',
        InvalidLimit,
        "Rule('/static/*'): '*' would be literal text: '{name}' matches one segment, '/**' at the end all the rest; "
        "write '/static/**' or '/static/{name}'",
    ),
    (
        'Rule("/login", budget="login", plan="login")',
        InvalidLimit,
        "Rule('/login'): plan: expected one such as Plan.of('login', per_minute=5), got 'login' (str)",
    ),
    (
        'Rule("/login", budget=5, plan=plan)',
        InvalidLimit,
        "Rule('/login'): budget: expected a name such as 'login', got 5 (int)",
    ),
    (
        'Rule("/login", budget="login")',
        InvalidLimit,
        "Rule('/login'): plan: expected one, as there is a budget, got None; "
        "write budget='login', plan=Plan.of('login', per_minute=5)",
    ),
    (
        'Rule("/login", per="account")',
        InvalidLimit,
        "Rule('/login'): per: expected 'caller' (str) in a rule without a budget, got 'account' (str); "
        "write budget='login', plan=Plan.of('login', per_minute=5)",
    ),
    (
        'Rule("/login", budget="Login!", plan=plan)',
        InvalidLimit,
        "Rule('/login'): budget: expected 1 to 32 of a-z, 0-9, _ and -, got 'Login!' (str)",
    ),
    (
        'Rule("/login", budget="account", plan=plan)',
        InvalidLimit,
        "Rule('/login'): budget: expected another name than 'account' and 'service', which plan tables use, got "
        "'account'",
    ),
    (
        'Rule("/login", exempt=True, cost=2)',
        InvalidLimit,
        "Rule('/login'): exempt: expected False in a rule with a cost, a budget, charge_on or wait_ms, got True",
    ),
    (
        'Rule("/login", methods=5)',
        InvalidLimit,
        "Rule('/login'): methods: expected a list of names such as ['GET', 'POST'], got 5",
    ),
    (
        'Rule("/login", methods="POST")',
        InvalidLimit,
        "Rule('/login'): methods: expected a list of names such as ['GET', 'POST'], got 'POST'",
    ),
    (
        'Rule("/login", cost=61, budget="login", plan=plan)',
        InvalidLimit,
        "Rule('/login'): cost: expected at most 60, the burst of the budget 'login', got 61; lower the "
        "cost or raise the burst",
    ),
    (
        'Rule("/login", cost="5")',
        InvalidLimit,
        "Rule('/login'): cost: expected an integer >= 0 or a plain function, got '5' (str); "
        "write cost=5, or cost={'requests': 1, 'tokens': 800}",
    ),
]


@each(MISTAKES)
def test_mistake(mistake: Mistake) -> None:
    """A rule with a wrong argument is refused when it is created."""
    assert_refused(mistake)
