"""Audits of running gateways: honest ones pass, cheats fail, and peers get the documented verdicts."""

import os

import pytest
from tests.loadtest.audits import (
    CHEATS,
    EVERYTHING,
    HONEST,
    HONEST_ACCOUNT,
    HONEST_ACCOUNTS,
    HONEST_SLOW,
    HONEST_WITH_WORKERS,
    PEERS,
    AuditCase,
    honest,
)
from tests.selection import parameters

from awx_ratelimit.loadtest.audit.verdict import Result
from awx_ratelimit.loadtest.report.results import Report

#: `make audit` sets this to ten.
RUNS = int(os.environ.get("AWX_AUDITS", "1"))
#: Cheats that fail the same promise of the same profile as another gateway: a cheat, slowapi with its fixed window, or
#: the account in test_command_runs.py. Those of an account are also in audit/test_shared_limits.py, without a server.
LIKE_OTHERS = (
    "fixed-window", "window-of-first-use", "unlimited-slots", "waits-too-short", "slow-neighbour",
    "account-limit-per-key", "account-slots-per-key", "strict-account", "month-of-30-days",
)  # fmt: skip
#: Peers but for nginx, and the demo with other settings than its usual ones. Its slots are those of the honest gateway.
SLOW_PEERS = (
    "slowapi", "Flask-Limiter", "slowapi, moving", "Flask-Limiter, moving", "demo, slots",
    "demo, processes with memory", "demo, processes on Redis", "demo, slots on Redis",
)  # fmt: skip
REPEATED = tuple(honest(f"honest-{n}", HONEST.plan, HONEST.profiles, must_pass=EVERYTHING) for n in range(1, RUNS))


def names_with(report: Report, result: Result) -> set[str]:
    """The promises with this result."""
    return {one.name for one in report.verdicts if one.result is result}


def summary(report: Report) -> str:
    """All verdicts, for the message of a failed assertion."""
    return "\n".join(f"{one.name}: {one.result}: {one.detail}" for one in report.verdicts)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "audit_case",
    [
        HONEST,
        pytest.param(HONEST_SLOW, marks=pytest.mark.full),
        pytest.param(HONEST_WITH_WORKERS, marks=pytest.mark.full),
        HONEST_ACCOUNT,
        pytest.param(HONEST_ACCOUNTS, marks=pytest.mark.full),
        *REPEATED,
    ],
    ids=str,
)
def test_honest_gateway_passes(audit_case: AuditCase, report: Report) -> None:
    """Every promise that the profiles can show is shown, and none fails."""
    assert names_with(report, Result.FAILED) == set(), summary(report)
    assert report.missing == {}, summary(report)
    assert audit_case.must_pass <= names_with(report, Result.PASSED), summary(report)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("audit_case", parameters(CHEATS, full=LIKE_OTHERS))
def test_cheat_fails_its_verdict(audit_case: AuditCase, report: Report) -> None:
    """A cheat fails the verdicts on what it breaks, and no others."""
    assert names_with(report, Result.FAILED) == audit_case.must_fail, summary(report)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("audit_case", parameters(PEERS, full=SLOW_PEERS))
def test_peer_gets_the_documented_verdicts(audit_case: AuditCase, report: Report) -> None:
    """The demo and the peers get the verdicts that docs/audits.md lists."""
    assert names_with(report, Result.FAILED) - audit_case.may_fail == audit_case.must_fail, summary(report)
    assert audit_case.must_pass <= names_with(report, Result.PASSED), summary(report)


@pytest.mark.full
@pytest.mark.parametrize("audit_case", [HONEST_WITH_WORKERS], ids=str)
def test_workers_share_one_clock(audit_case: AuditCase, report: Report) -> None:
    """The observations of two workers are in one report, with comparable times."""
    assert report.record.workers == 2
    assert report.tolerances.spread_us < 100_000
    assert len(report.record.observations) > 40
