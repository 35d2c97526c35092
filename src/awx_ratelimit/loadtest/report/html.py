"""The report as one page of HTML with verdicts, plots and numbers. It loads nothing and runs no scripts."""

from collections.abc import Sequence
from html import escape
from string import Template
from typing import Final

from awx_ratelimit.core.rate import CONCURRENT
from awx_ratelimit.core.validation import escape_unprintable
from awx_ratelimit.loadtest.audit.observation import SECOND_US, Observation, Outcome
from awx_ratelimit.loadtest.audit.verdict import Result, Verdict
from awx_ratelimit.loadtest.report import plots
from awx_ratelimit.loadtest.report.results import PERCENTILES, Report

_CSS_CLASSES: dict[str, str] = {Result.PASSED: "passed", Result.FAILED: "failed", Result.NOT_SHOWN: "unshown"}
_PAGE: Final = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>$mark: $url</title><style>
:root { color-scheme: light dark; --text: #1c2430; --dim: #667085; --back: #fff; --line: #e4e7ec; --band: #f5f7fa;
  --blue: #2563eb; --red: #d92d20; --green: #067647; --amber: #b54708; --purple: #7a3fd0; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e9ef; --dim: #98a2b3; --back: #12161d; --line: #2b323d;
  --band: #191f28; --blue: #7aa7ff; --red: #ff8a80; --green: #6fd6a0; --amber: #f5b267; --purple: #c3a0ff; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); margin: 2rem auto;
  max-width: 60rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; } h2 { font-size: 1.1rem; margin-top: 2rem; }
p, figcaption, .tick, .name { color: var(--dim); }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .35rem .6rem .35rem 0;
  border-bottom: 1px solid var(--line); vertical-align: top; }
.detail { overflow-wrap: anywhere; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.passed { color: var(--green); } .failed { color: var(--red); } .unshown { color: var(--amber); }
td.mark, th { white-space: nowrap; } td.mark { padding-right: 1rem; font-weight: 600; }
ul { margin: .3rem 0; padding-left: 1.2rem; }
figure { margin: 1.2rem 0; } .wide { overflow-x: auto; } svg { width: 100%; min-width: 44rem; height: auto; }
path { fill: none; stroke-width: 1.6; stroke-linecap: round; }
.tick, .name { font-size: 11px; fill: var(--dim); } .grid { stroke: var(--line); }
.band0 { fill: var(--band); } .band1 { fill: none; pointer-events: all; }
.c0 { stroke: var(--blue); color: var(--blue); } .c1 { stroke: var(--amber); color: var(--amber); }
.c2 { stroke: var(--purple); color: var(--purple); }
.bound { stroke: var(--red); color: var(--red); stroke-dasharray: 4 3; }
rect.admitted { fill: var(--blue); } rect.refused { fill: var(--amber); } rect.failed { fill: var(--red); }
rect.unfinished { fill: var(--dim); }
.key.admitted { color: var(--blue); } .key.refused { color: var(--amber); }
.key { margin-left: 1rem; font-size: .85rem; white-space: nowrap; } .key::before { content: "\\25A0  "; }
@media (max-width: 40rem) { .verdicts tr { display: grid; grid-template-columns: 1fr auto; border-bottom: 1px solid
  var(--line); } .verdicts :is(th, td) { border: 0; padding-right: 0; } .verdicts .detail { grid-column: 1 / -1;
  padding-top: 0; color: var(--dim); } .key { margin: 0 1rem 0 0; } figcaption { line-height: 1.8; } }
</style></head><body>
<h1><span class="$class">$mark</span> $url</h1>
<p>$about</p>
<h2>Verdicts</h2>
<table class="verdicts"><tr><th>promise</th><th>verdict</th><th class="detail">details</th></tr>$verdicts</table>
<h2>Over time</h2>
<p>The bands show the profiles. Plots cover the first key, unless they say "all keys". Its plan is <b>$plan</b>.</p>
$plots
<h2>Profiles</h2>
<div class="wide" tabindex="0"><table><tr><th>profile</th><th class="number">admitted</th>
<th class="number">refused</th><th class="number">failed</th><th class="number">unfinished</th>
<th class="number">p50 ms</th>
<th class="number">p95 ms</th><th class="number">p99 ms</th></tr>
$profiles</table></div>
<p>A gateway decides at some moment between sending and answering. Every verdict holds for each such moment.</p>
</body></html>
""")


def as_html(report: Report) -> str:
    """Render the page."""
    return _PAGE.substitute(
        mark=report.outcome,
        **{"class": _CSS_CLASSES.get(report.outcome, "unshown")},
        url=_text(report.config.url),
        plan=_text(report.config.plan.name),
        about=_text(_summary(report)),
        verdicts="".join(map(_verdict_row, report.verdicts)),
        plots="".join(_plots(report)) or "<p>No request was sent.</p>",
        profiles="".join(_profile_row(report, name) for name in report.profiles),
    )


def _text(text: str) -> str:
    """Escape a gateway's text, so that it contains no markup and no invisible characters."""
    return escape(escape_unprintable(text))


def _summary(report: Report) -> str:
    spread = f"{report.record.workers} workers, with clocks accurate to {report.tolerances.spread_us} us"
    parts = [
        f"{report.began_at:%Y-%m-%d %H:%M:%S} UTC",
        f"{len(report.record.observations)} requests in {report.seconds:.1f} s",
        *([spread] if report.record.workers else []),
        *([report.end] if report.end else []),
        *([report.gap] if report.gap else []),
    ]
    return "; ".join(parts)


def _verdict_row(one: Verdict) -> str:
    more = "".join(f"<li>{_text(example)}</li>" for example in one.examples[1:])
    detail = _text(one.detail) + (f"<ul>{more}</ul>" if more else "")
    return (
        f'<tr><td>{one.name}</td><td class="mark {_CSS_CLASSES[one.result]}">{one.result}</td>'
        f'<td class="detail">{detail}</td></tr>'
    )


def _profile_row(report: Report, name: str) -> str:
    row = report.profile_statistics(name)
    numbers = [str(row[outcome.value]) for outcome in Outcome]
    numbers += [f"{row[f'p{percent}_ms']:.1f}" for percent in PERCENTILES]
    cells = "".join(f'<td class="number">{number}</td>' for number in numbers)
    return f"<tr><td>{_text(name)}</td>{cells}</tr>"


def _plots(report: Report) -> list[str]:
    if not report.record.observations:
        return []
    seen = sorted(report.record.observations, key=lambda one: one.sent_us)
    begin_us, seconds = seen[0].sent_us, report.seconds
    bands, step_s = _bands(seen, begin_us), plots.step_width_s(seconds)
    # Those of the first key, and of its account.
    budgets = [(budget, budget.groups(seen).get(0, [])) for budget in report.tolerances.budgets]
    figures = [
        plots.lines(f"Admitted cost and its limit by {budget.name(rate.name)!r}", curve, bands, seconds)
        for budget, of_group in budgets
        for rate in budget.rates
        if rate in report.config.reachable_rates
        for curve in [plots.admissions(of_group, rate, begin_us)]
    ]
    counts = plots.outcome_counts(seen, begin_us, step_s)
    parts = [(outcome.value, counts[outcome]) for outcome in Outcome if counts[outcome]]
    figures.append(plots.bars(f"Requests per {step_s:g} s, all keys", parts, step_s, bands, seconds))
    latencies = plots.latencies(seen, begin_us, step_s)
    figures.append(plots.lines("Latency to the response head in ms, all keys", latencies, bands, seconds))
    for budget, of_group in budgets:
        if any(one.held for one in of_group):
            slots = plots.slots(of_group, budget.slots, begin_us, seconds)
            title = f"Requests certainly in flight, {budget.name(CONCURRENT)!r}"
            figures.append(plots.lines(title, slots, bands, seconds))
    return figures


def _bands(seen: Sequence[Observation], begin_us: int) -> list[plots.Band]:
    """The time span of each profile."""
    spans: dict[str, tuple[int, int]] = {}
    for one in seen:
        first_us, last_us = spans.get(one.profile, (one.sent_us, one.ended_us))
        spans[one.profile] = first_us, max(last_us, one.ended_us)
    return [
        ((first_us - begin_us) / SECOND_US, (last_us - begin_us) / SECOND_US, name)
        for name, (first_us, last_us) in spans.items()
    ]
