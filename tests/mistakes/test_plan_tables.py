"""Wrong plan tables."""

from tests.mistakes.cases import Mistake, assert_refused, each

from awx_ratelimit import InvalidLimit

MISTAKES: list[Mistake] = [
    (
        'PlanTable({"p": plan})',
        TypeError,
        "plans: expected a list of Plans, got a dict; write PlanTable.from_mapping(...)",
    ),
    (
        "PlanTable(plan)",
        TypeError,
        "plans: expected a list of Plans, got a Plan; write PlanTable([plan])",
    ),
    (
        'PlanTable("plans.toml")',
        TypeError,
        "plans: expected a list of Plans, got 'plans.toml' (str); write PlanTable.from_toml(path)",
    ),
    (
        "PlanTable(None)",
        TypeError,
        "plans: expected a list of Plans, got None (NoneType); write PlanTable([plan])",
    ),
    (
        'PlanTable(["starter"])',
        TypeError,
        "plans[0]: expected a Plan, got 'starter' (str); write Plan.of(\"api\", per_minute=60)",
    ),
    (
        'PlanTable([plan], default="gold")',
        InvalidLimit,
        "plan table: default: there is no plan 'gold'; allowed are api",
    ),
    (
        'PlanTable([plan, plan.of("api", per_day=5)])',
        InvalidLimit,
        "plan table: plans.api: two plans have this name",
    ),
    (
        'PlanTable([plan], overrides=[("acct_acme", {})])',
        InvalidLimit,
        "plan table: overrides: expected a table with the keys <name>, got [('acct_acme', {})]",
    ),
    (
        'PlanTable([plan], overrides={"acct_acme": plan})',
        InvalidLimit,
        "plan table: overrides.acct_acme: expected a table with the keys plan, per_second, per_minute, per_hour, "
        "per_day, per_week, per_month, per_year, rates, concurrent, shadow, account, times, got Plan(name='api', "
        "rates=(Rate(name='minute', tokens=60, period_ms=60000, period=N...",
    ),
    (
        'PlanTable([plan], overrides={"acct_acme": {"per_minut": 5}})',
        InvalidLimit,
        "plan table: overrides.acct_acme.per_minut: unknown key; allowed are plan, per_second, "
        "per_minute, per_hour, per_day, per_week, per_month, per_year, rates, concurrent, shadow, account, times; "
        "did you mean 'per_minute'?",
    ),
    (
        'PlanTable([plan], overrides={"acct_acme": {"plan": "gold"}})',
        InvalidLimit,
        "plan table: overrides.acct_acme.plan: there is no plan 'gold'; allowed are api",
    ),
    (
        'PlanTable([plan], overrides={"": {"per_minute": 5}})',
        InvalidLimit,
        "plan table: overrides: expected a subject or an account as each key, got ''",
    ),
    (
        'PlanTable([plan], overrides={7: {"per_minute": 5}})',
        InvalidLimit,
        "plan table: overrides.7: unknown key; allowed are strings",
    ),
    (
        "PlanTable([plan], service=60)",
        TypeError,
        'service: expected a Plan such as Plan.of("service", per_second=5_000), or None, got 60 (int)',
    ),
    (
        'PlanTable([plan], service=plan.of("a", per_day=5, account=plan))',
        InvalidLimit,
        "service: expected a plan without an account, because everybody shares it",
    ),
    (
        "PlanTable.from_toml(None)",
        TypeError,
        "path: expected the path of a TOML file, got None; write PlanTable.from_mapping(...)",
    ),
    (
        'PlanTable.from_toml({"plans": {}})',
        TypeError,
        "path: expected the path of a TOML file, got a dict; write PlanTable.from_mapping(...)",
    ),
    (
        "PlanTable.watch(None)",
        TypeError,
        "path: expected the path of a TOML file, got None; write PlanTable.from_mapping(...)",
    ),
    (
        'table.resolve("starter")',
        TypeError,
        "caller: expected a Caller, got 'starter' (str); write resolve(Caller(subject, plan))",
    ),
    (
        'table.resolve(Caller("u", "gold"))',
        InvalidLimit,
        "caller: plan: there is no plan 'gold'; allowed are starter, growth",
    ),
]


@each(MISTAKES)
def test_mistake(mistake: Mistake) -> None:
    """A wrong table, or a wrong argument of its methods, is refused."""
    assert_refused(mistake)
