"""What is said of limits: the header lines of every decided response, and the 429. `envelope` has the other errors.

Header fields follow draft-ietf-httpapi-ratelimit-headers-08 and later: `RateLimit-Policy` says what a plan allows,
`RateLimit` how it stands. Statuses and fields of errors are those of RFC 6585 and RFC 9110.
"""

from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final, Literal, NamedTuple

from awx_ratelimit.core.bucket import next_boundary_ms, wait_ms
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan, PlanCache
from awx_ratelimit.core.rate import CONCURRENT, Rate
from awx_ratelimit.http.error_responses import RETRY_HEADER, document, error
from awx_ratelimit.http.message import Reply

#: The header that carries an API key.
KEY_HEADER = b"x-api-key"
Dialect = Literal["draft", "legacy", "both", "none"]
DIALECTS: tuple[Dialect, ...] = ("draft", "legacy", "both", "none")
Lines = list[tuple[bytes, bytes]]

#: The largest number of a structured field (RFC 9651).
_MOST = 10**15 - 1
_DRAFT = (b"ratelimit-policy", b"ratelimit")
_LEGACY = (b"x-ratelimit-limit", b"x-ratelimit-remaining", b"x-ratelimit-reset")
_QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"


def names(dialect: Dialect) -> tuple[bytes, ...]:
    """The names of the lines that `headers` sends; an app's own headers of these names are replaced."""
    return {"draft": _DRAFT, "legacy": _LEGACY, "both": (*_DRAFT, *_LEGACY), "none": ()}[dialect]


def exposed(dialect: Dialect) -> tuple[bytes, bytes]:
    """The line that lets a browser's script read the others (CORS)."""
    return b"access-control-expose-headers", b", ".join((RETRY_HEADER, *names(dialect)))


def added_and_exposed(dialect: Dialect, expose: bool) -> tuple[frozenset[bytes], frozenset[str]]:
    """The names of the lines that `headers` sends, and those in the line of `exposed`, if it is sent."""
    added = frozenset(names(dialect))
    return added, frozenset(name.decode() for name in (RETRY_HEADER, *added)) if expose else frozenset()


def headers(decision: Decision, dialect: Dialect = "draft") -> Lines:
    """The header lines that every decided response carries."""
    return LINES[dialect](decision)


class _Form(NamedTuple):
    """What the draft's two lines of a plan have in common: all but the numbers of a decision."""

    policy_line: tuple[bytes, bytes]
    state: str
    rates: tuple[tuple[int, int, Rate], ...]
    slots: int
    pair: tuple[int, int, int, int, int, int, int, int] | None


def _form(plan: Plan) -> _Form:
    shown = () if plan.shadow else tuple(numbered for numbered in plan.numbered_rates if not numbered[2].shadow)
    items = [f'"{rate.name}";r=%d;t=%d' for _, _, rate in shown]
    slots = 0
    if plan.concurrency and not (plan.concurrency.shadow or plan.shadow):
        slots = plan.slots
        items.append(f'"{CONCURRENT}";r=%d%s')
    return _Form((b"ratelimit-policy", policy(plan)), ", ".join(items), shown, slots, _pair(plan, shown, slots))


def _pair(plan: Plan, shown: tuple[tuple[int, int, Rate], ...], slots: int) -> Any:
    """Capacity, unit, period and tokens a second, of each of two continuous rates beside slots; None of any others."""
    if plan.pair is None or len(shown) != 2 or not slots or max(_most_shown(rate) for rate in plan.rates) > _MOST:
        return None
    return tuple(n for rate in plan.rates for n in (rate.capacity, rate.unit, rate.period_ms, rate.tokens * 1000))


def _most_shown(rate: Rate) -> int:
    return max(rate.burst, rate.burst * rate.period_ms // rate.tokens)


_forms: Final = PlanCache(_form)
_known_form: Final = _forms.entries.get


def _draft(decision: Decision) -> Lines:
    _, plan, _, _, over, levels, held, _, _, _ = decision
    known = _known_form(id(plan))
    policy_line, state, _, slots, pair = known[0] if known is not None else _forms.get(plan)
    if pair is not None and not over:
        # The same for two continuous rates and slots that all fit, in a straight line: what nearly every answer is.
        capacity, unit, period_ms, tokens, capacity_2, unit_2, period_2_ms, tokens_2 = pair
        left, left_2, free = (capacity - levels[0]) // unit, (capacity_2 - levels[2]) // unit_2, slots - held
        seconds = -(-left * period_ms // tokens) or _next_token_s(decision, 0)
        seconds_2 = -(-left_2 * period_2_ms // tokens_2) or _next_token_s(decision, 1)
        return [policy_line, (b"ratelimit", (state % (left, seconds, left_2, seconds_2, free, "")).encode())]
    return [policy_line, (b"ratelimit", (state % _numbers(decision)).encode())] if state else []


def _numbers(decision: Decision) -> tuple[Any, ...]:
    """What is left of each limit and in how many seconds: see the wire contract."""
    _, plan, cost, now_ms, over, levels, held, _, _, slot_wait_ms = decision
    form = _forms.get(plan)
    numbers: list[Any] = []
    for index, bit, rate in form.rates:
        debt = levels[index]
        left = (rate.capacity - debt) // rate.unit
        if over & bit:
            seconds = _seconds(wait_ms(rate, debt, levels[index + 1], now_ms, cost))
        elif rate.calendar:
            seconds = _seconds(next_boundary_ms(rate, levels[index + 1]) - now_ms)
        else:
            seconds = -(-left * rate.period_ms // (rate.tokens * 1000)) or _next_token_s(decision, index // 2)
        numbers += (_digits(left), _digits(seconds))
    if form.slots:
        numbers += (max(0, form.slots - held), f";t={_seconds(slot_wait_ms)}" if over & plan.slot_bit else "")
    return tuple(numbers)


def _next_token_s(decision: Decision, number: int) -> int:
    """The wait for one more token of the plan's rate `number`, in seconds."""
    debt, since_ms = decision.levels[2 * number : 2 * number + 2]
    return _digits(_seconds(wait_ms(decision.plan.rates[number], debt, since_ms, decision.decided_at_ms, 1)))


def _legacy(decision: Decision) -> Lines:
    """The tightest limit: the one with the longest wait, else the rate that has the least left."""
    usages = [usage for usage in decision.usages if not usage.shadow]
    rates = [usage for usage in usages if usage.limit != CONCURRENT]
    if not decision.allowed:
        tightest = max(usages, key=lambda usage: usage.retry_after_ms)
    elif rates:
        tightest = min(rates, key=lambda usage: usage.remaining)
    else:
        return []
    numbers = (tightest.capacity, tightest.remaining, -(-tightest.reset_after_ms // 1000))
    return [(name, b"%d" % number) for name, number in zip(_LEGACY, numbers, strict=True)]


def _both(decision: Decision) -> Lines:
    return _draft(decision) + _legacy(decision)


def _none(_: Decision) -> Lines:
    return []


#: The header lines that every decided response carries, by dialect.
LINES: Final[Mapping[Dialect, Callable[[Decision], Lines]]] = {
    "draft": _draft,
    "legacy": _legacy,
    "both": _both,
    "none": _none,
}


def policy(plan: Plan) -> bytes:
    """The value of RateLimit-Policy: a constant of the plan."""
    items = [_policy_item(rate) for rate in plan.rates if not (rate.shadow or plan.shadow)]
    if plan.concurrency and not (plan.concurrency.shadow or plan.shadow):
        items.append(f'"{CONCURRENT}";q={_digits(plan.concurrency.slots)};qu="concurrent-requests"')
    return ", ".join(items).encode()


def _policy_item(rate: Rate) -> str:
    burst = "" if rate.burst == rate.tokens else f";awx-burst={_digits(rate.burst)}"
    return f'"{rate.name}";q={_digits(rate.tokens)};w={_digits(_seconds(rate.period_ms))}{burst}'


def refusal(decision: Decision, dialect: Dialect = "draft", *, problem: bool = False) -> Reply:
    """429 of a refused decision: when to come back, in the header and in the message alike.

    With `problem` the body is one of RFC 9457 that names the limits that refused.
    """
    # Usages are a tenth of the work of a refusal, and only the problem document names limits.
    usages = decision.usages if problem else ()
    violated = [usage.limit for usage in usages if usage.refused and not usage.shadow]
    return come_back(decision.retry_after_ms, violated, headers(decision, dialect), problem=problem)


def come_back(
    retry_after_ms: int, violated: list[str], more: Iterable[tuple[bytes, bytes]] = (), *, problem: bool = False
) -> Reply:
    """429 that says when to come back; see `refusal`."""
    seconds = _seconds(retry_after_ms)
    message = f"Rate limit exceeded. Retry after {seconds} second{'' if seconds == 1 else 's'}."
    return _too_many(message, [(RETRY_HEADER, b"%d" % seconds), *more], violated if problem else None)


def impossible(plan: Plan, cost: int, dialect: Dialect = "draft", *, problem: bool = False) -> Reply:
    """429 of a claim that no waiting satisfies: it does not say when to come back."""
    violated = [rate.name for rate in plan.rates if cost > rate.burst and not (rate.shadow or plan.shadow)]
    more = [(b"ratelimit-policy", policy(plan))] if dialect in ("draft", "both") else []
    return _too_many("Request cost exceeds the limit.", more, violated if problem else None)


def described() -> list[tuple[int, str, list[tuple[str, str]]]]:
    """For documents of an API: each status that a gate answers with, its meaning, and its headers with their types."""
    lines = [(RETRY_HEADER, "integer"), *((name, "string") for name in _DRAFT)]
    return [
        (HTTPStatus.UNAUTHORIZED.value, "The API key is missing or not accepted.", []),
        (
            HTTPStatus.TOO_MANY_REQUESTS.value,
            "A limit is reached.",
            [(name.decode().title(), kind) for name, kind in lines],
        ),
    ]


def _too_many(message: str, more: Lines, violated: list[str] | None) -> Reply:
    status = HTTPStatus.TOO_MANY_REQUESTS
    if violated is None:
        return error(status, "rate_limit_exceeded", "rate_limit_error", message, more)
    problem = {
        "type": _QUOTA_EXCEEDED,
        "title": "Request cannot be satisfied as assigned quota has been exceeded",
        "status": status.value,
        "detail": message,
        "violated-policies": violated,
    }
    return document(status, problem, more, kind=b"application/problem+json")


def _digits(number: int) -> int:
    """At most what a structured field can carry."""
    return min(number, _MOST)


def _seconds(ms: int) -> int:
    """Whole seconds, rounded up, at least 1."""
    return max(1, -(-ms // 1000))
