"""The usage history as the page shows it: totals, charts, a table, and refusals by limit. Pure; times are in UTC."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from awx_ratelimit.console import formatting, limit_words
from awx_ratelimit.console.chart import Chart, Column, Series, Shown, bar_chart
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import REQUESTS
from awx_ratelimit.keys.usage_range import By
from awx_ratelimit.keys.usage_reports import UsagePeriod

#: Measures with a chart on one page, the largest first. The CSV has all of them.
MAX_MEASURES: Final = 5
#: Limits in the list of refusals.
MAX_LIMITS: Final = 20


class Span(NamedTuple):
    """A time that users can choose: the current hour or day and those before it. Labels are hours or days apart."""

    name: str
    by: By
    number: int
    label_every: int
    wide_label_every: int

    @property
    def words(self) -> str:
        """``30 days``."""
        return formatting.count(self.number, self.by)

    def begins_at(self, now: datetime) -> datetime:
        """A moment in the first period."""
        return now - (self.number - 1) * timedelta(**{f"{self.by}s": 1})


SPANS: Final = (
    Span("30-days", "day", 30, 6, 3),
    Span("48-hours", "hour", 48, 12, 6),
    Span("24-hours", "hour", 24, 6, 2),
)


def span_of(name: str) -> Span:
    """The span with this name; otherwise the first one."""
    return next((span for span in SPANS if span.name == name), SPANS[0])


class Share(NamedTuple):
    """A row of a list with a small bar: a count, and its share of the largest one in percent."""

    name: str
    number: int
    of_largest: float


class Measure(NamedTuple):
    """What is counted besides requests, such as ``tokens``, and a value for each period."""

    name: str
    values: tuple[int, ...]

    @property
    def title(self) -> str:
        """The name as the beginning of a heading."""
        return self.name[:1].upper() + self.name[1:]


@dataclass(frozen=True, slots=True)
class UsageView:
    """The usage of an account or a key in a span. It has no charts if there was none."""

    span: Span
    allowed: int
    refused: int
    peak_concurrent: int
    last_used_at: datetime | None
    measures: tuple[Measure, ...]
    more_measures: int
    charts: tuple[Chart, ...]
    columns: tuple[Column, ...]
    periods: tuple[UsagePeriod, ...]
    refusals: tuple[Share, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing was used."""
        return not self.charts


def usage_view(span: Span, periods: Sequence[UsagePeriod], plan: Plan | None) -> UsageView:
    """Describe the `periods` of `span`, oldest first. `plan` names the limits that have refused requests."""
    columns = _columns(span, periods)
    measures = _measures(periods)
    allowed, refused = sum(period.allowed for period in periods), sum(period.refused for period in periods)
    shown = measures[:MAX_MEASURES]
    charts = [_requests_chart(span, columns, periods), *(_measure_chart(span, columns, each) for each in shown)]
    return UsageView(
        span,
        allowed,
        refused,
        max((period.peak_concurrent for period in periods), default=0),
        max((period.last_used_at for period in periods if period.last_used_at), default=None),
        shown,
        len(measures) - len(shown),
        tuple(charts) if allowed or refused or measures else (),
        columns,
        tuple(periods),
        _refusals(periods, plan),
    )


def shares(counts: Mapping[str, int]) -> tuple[Share, ...]:
    """The rows of a list, in the order of `counts`, which has the largest first."""
    largest = max(counts.values(), default=0) or 1
    return tuple(Share(name, number, round(number * 100 / largest, 3)) for name, number in counts.items())


def limit_shares(counts: Mapping[str, int], plan: Plan | None) -> tuple[Share, ...]:
    """The rows of a list of limits, by their names: the largest counts. `plan` is that of the account, if known."""
    total: Counter[str] = Counter()
    for limit, count in counts.items():
        total[limit_words.limit_name(limit, plan)] += count
    return shares(dict(total.most_common(MAX_LIMITS)))


def _measures(periods: Sequence[UsagePeriod]) -> tuple[Measure, ...]:
    """What else than requests was counted, the most first. The cost in requests is left out if each request cost 1."""
    totals: Counter[str] = Counter()
    for period in periods:
        totals.update(period.costs)
    if all(period.costs.get(REQUESTS, 0) == period.allowed for period in periods):
        totals.pop(REQUESTS, None)
    return tuple(
        Measure("cost in requests" if measure == REQUESTS else measure, _values(periods, measure))
        for measure, total in sorted(totals.items(), key=lambda item: (-item[1], item[0]))
        if total
    )


def _values(periods: Sequence[UsagePeriod], measure: str) -> tuple[int, ...]:
    return tuple(period.costs.get(measure, 0) for period in periods)


def _columns(span: Span, periods: Sequence[UsagePeriod]) -> tuple[Column, ...]:
    """A label is at the last day, and at whole parts of a day, so that labels keep their distance."""
    last = len(periods) - 1
    if span.by == "day":
        return tuple(
            Column(formatting.date(at), formatting.day_and_month(at), _shown(span, last - number))
            for number, at in enumerate(period.begins_at for period in periods)
        )
    return tuple(
        Column(
            f"{formatting.day_and_month(at)}, {formatting.time_of_day(at)}",
            formatting.time_of_day(at) if at.hour else formatting.day_and_month(at),
            _shown(span, at.hour),
        )
        for at in (period.begins_at for period in periods)
    )


def _shown(span: Span, distance: int) -> Shown:
    if distance % span.label_every == 0:
        return "always"
    return "wide" if distance % span.wide_label_every == 0 else "never"


def _requests_chart(span: Span, columns: Sequence[Column], periods: Sequence[UsagePeriod]) -> Chart:
    series = (
        Series("allowed", "allowed", [period.allowed for period in periods]),
        Series("refused", "refused", [period.refused for period in periods]),
    )
    allowed, refused = (formatting.number(sum(each.values)) for each in series)
    most, name = _most(columns, [period.allowed + period.refused for period in periods])
    busiest = f"The busiest {span.by} was {name}, with {formatting.count(most, 'request')}."
    summary = f"{allowed} requests were allowed and {refused} refused in the last {span.words}. {busiest}"
    return bar_chart(f"Requests per {span.by}", summary, columns, series)


def _measure_chart(span: Span, columns: Sequence[Column], measure: Measure) -> Chart:
    most, name = _most(columns, measure.values)
    total = formatting.number(sum(measure.values))
    busiest = f"The {span.by} with the most was {name}, with {formatting.number(most)}."
    summary = f"{measure.title}: {total} in the last {span.words}. {busiest}"
    return bar_chart(
        f"{measure.title} per {span.by}", summary, columns, [Series("allowed", measure.name, measure.values)]
    )


def _most(columns: Sequence[Column], values: Sequence[int]) -> tuple[int, str]:
    """The largest value, and the first column that has it."""
    most = max(values)
    return most, columns[list(values).index(most)].name


def _refusals(periods: Sequence[UsagePeriod], plan: Plan | None) -> tuple[Share, ...]:
    total: Counter[str] = Counter()
    for period in periods:
        total.update(period.refusals)
    return limit_shares(total, plan)
