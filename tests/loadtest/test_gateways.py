"""Whole audits of gateways that run: the honest pass, each cheat is caught by its verdict, others as they are."""

import os

import pytest
from tests.loadtest.audits import CHEATS, EVERYTHING, HONEST, OTHERS, OVER_TWO, SLOWLY, Spec, honest

from awx_ratelimit.loadtest.audit.verdict import Result
from awx_ratelimit.loadtest.report.results import Report

#: `make audit` asks for ten.
RUNS = int(os.environ.get("AWX_AUDITS", "1"))
AGAIN = tuple(honest(f"honest-{n}", HONEST.plan, HONEST.profiles, shown=EVERYTHING) for n in range(1, RUNS))


def marks(report: Report, mark: Result) -> set[str]:
    """The promises that have this mark."""
    return {one.name for one in report.verdicts if one.result is mark}


def told(report: Report) -> str:
    """What was found, for whoever reads of a failure."""
    return "\n".join(f"{one.name}: {one.result}: {one.detail}" for one in report.verdicts)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("spec", [HONEST, SLOWLY, OVER_TWO, *AGAIN], ids=str)
def test_an_honest_gateway_passes(spec: Spec, report: Report) -> None:
    """Every promise that the profiles can show is shown, and none fails."""
    assert marks(report, Result.FAILED) == set(), told(report)
    assert spec.shown <= marks(report, Result.PASSED), told(report)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("spec", CHEATS, ids=str)
def test_a_cheat_is_caught_by_its_verdict(spec: Spec, report: Report) -> None:
    """By that, and by no other."""
    assert marks(report, Result.FAILED) == spec.broken, told(report)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("spec", OTHERS, ids=str)
def test_others_are_told_as_they_are(spec: Spec, report: Report) -> None:
    """Our own demo keeps its promises but for one memory in four processes; others break what they do not promise."""
    assert marks(report, Result.FAILED) - spec.perhaps == spec.broken, told(report)
    assert spec.shown <= marks(report, Result.PASSED), told(report)


@pytest.mark.parametrize("spec", [OVER_TWO], ids=str)
def test_two_workers_have_both_made_load(spec: Spec, report: Report) -> None:
    """What Locust's workers have seen is in the report, on one clock."""
    assert report.workers == 2
    assert report.tolerances.spread_us < 100_000
    assert len(report.observations) > 40
