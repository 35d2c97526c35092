"""What a limit loses because its override replaces the whole of it: its billing day, time zone, refill or burst."""

from collections.abc import Iterator

from awx_ratelimit.cli import output
from awx_ratelimit.cli.plan_sources import plan_source
from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.errors import InvalidLimit
from awx_ratelimit.keys import Account
from awx_ratelimit.runtime.documentation import page


def note_lost_settings(before: Account, after: Account, plans: str | None) -> None:
    """Say so for each limit of the account that has lost a setting. Without a plan table nothing is known."""
    try:
        old, new = ({} if plans is None else _rates(_plan_of(account, plans)) for account in (before, after))
    except InvalidLimit:
        # The plan that the account had is no longer in the table.
        return
    for name, rate in new.items():
        if lost := [*_lost(old.get(name, rate), rate)]:
            output.say(
                f"note: {name} no longer has {', '.join(lost)}: an override replaces the whole limit. To keep that, "
                f'repeat it in the override, or write {{"times": 2}} to multiply all limits. '
                f"See {page('plans', 'an-override-replaces-the-whole-limit')}"
            )


def _plan_of(account: Account, plans: str) -> Plan:
    caller = Caller(account.id, account.plan, account.id, account.current_overrides)
    return plan_source(plans).table.resolve(caller)


def _rates(plan: Plan) -> dict[str, Rate]:
    shared = () if plan.account is None else plan.account.rates
    return {rate.name: rate for rate in plan.rates} | {f"account.{rate.name}": rate for rate in shared}


def _lost(old: Rate, new: Rate) -> Iterator[str]:
    """The settings that `old` has and that are the default in `new`."""
    default = Rate(new.name, new.tokens, period=new.period) if new.period else Rate(new.name, new.tokens, new.period_ms)
    for setting in ("anchor_day", "anchor_month", "timezone", "refill"):
        had, has = getattr(old, setting), getattr(new, setting)
        if had != has == getattr(default, setting):
            yield f"{setting} = {had!r}"
    if old.burst != old.tokens and new.burst == new.tokens:
        yield f"burst = {old.burst}"
