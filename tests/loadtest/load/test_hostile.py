"""Malformed, slow and endless responses: each becomes a verdict within the time-out, and none crashes the tester."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

import pytest
from tests.loadtest.hostile import hostile
from tests.machine import timed

from awx_ratelimit import Concurrency, Plan, Rate
from awx_ratelimit.loadtest.audit.observation import Observation, Outcome
from awx_ratelimit.loadtest.load.client import Client, LoadContext
from awx_ratelimit.loadtest.report.html import as_html
from awx_ratelimit.loadtest.report.results import Report, as_junit
from awx_ratelimit.loadtest.run_config import RunConfig
from awx_ratelimit.loadtest.runner import RunRecord

PLAN = Plan("p", (Rate("rate", 10, 2_000),), Concurrency(3))
#: For responses that never end in time.
TIMEOUT_MS = 400
#: For all others. Reading 16 MiB may take longer than the short one.
PATIENT_MS = 30_000
SLOW = {"/dripping-body", "/dripping-head", "/endless-hints"}
KEY = "a_key_of_the_test"
_MAX_LATE_S = 10.0


class Prober:
    """Sends requests to a hostile server like a Locust user and returns the observations."""

    def __init__(self, url: str, requests: list[bytes]) -> None:
        self._url, self.requests = url, requests

    def __call__(self, path: str, *, held: str = "") -> Observation:
        """Send one request to `path`; `held` is "streams" or "websockets" for a request that stays open."""
        config = self.config(path)
        context = LoadContext(config, [KEY], seconds_left=60, requests=1, on_request=lambda *_: None)
        client = Client(context, held or "burst")
        until_s = time.monotonic() + TIMEOUT_MS / 1_000

        def until() -> bool:
            # On a busy machine it takes longer until the client has seen that a response stays open.
            in_flight = [Observation.from_row(row) for row in context.take_rows()["in_flight"]]
            late_s = time.monotonic() - until_s
            return late_s >= 0 and (late_s > _MAX_LATE_S or any(one.held for one in in_flight))

        if held:
            client.hold(until, websocket=held == "websockets")
        else:
            client.send()
        client.reconnect()
        (row,) = context.take_rows()["rows"]
        return Observation.from_row(row)

    def config(self, path: str) -> RunConfig:
        """The run configuration for requests to `path`."""
        timeout_ms = TIMEOUT_MS if path in SLOW else PATIENT_MS
        return RunConfig(self._url, PLAN, path=path, stream_path=path, websocket_path=path, timeout_ms=timeout_ms)

    def report(self, path: str) -> Report:
        """The report of one request to `path`."""
        return Report.of_run(self.config(path), datetime.now(UTC), RunRecord([self(path)]))


@pytest.fixture(scope="module")
def probe() -> Iterator[Prober]:
    """A prober of a hostile server."""
    with hostile() as (url, requests):
        yield Prober(url, requests)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/endless-body", "the response is too long"),
        ("/dripping-body", "no complete response within 0.4 s"),
        ("/dripping-head", "no complete response within 0.4 s"),
        ("/endless-head", "the response is too long"),
        ("/endless-hints", "no complete response within 0.4 s"),
        ("/no-http", "the connection broke"),
        ("/closes", "the connection broke: closed before the response was complete"),
        ("/cut-short", "the connection broke"),
        ("/two-answers", "received more than one response"),
        ("/elsewhere", "the gateway redirects"),
        ("/fails", "the gateway answered with status 503"),
    ],
)
def test_unusable_response_fails_answers(probe: Prober, path: str, why: str) -> None:
    """An incomplete, endless or wrong response fails "answers" within the time-out and says why."""
    with timed() as watch:
        report = probe.report(path)

    assert [one.name for one in report.failed] == ["answers"]
    assert why in report.failed[0].detail
    assert watch.seconds < watch.limit(2)


@pytest.mark.parametrize("path", ["/hints-first", "/until-it-closes"])
def test_unusual_but_valid_response(probe: Prober, path: str) -> None:
    """Interim responses and bodies that end with the connection are valid."""
    one = probe(path)

    assert one.outcome == Outcome.ADMITTED
    assert one.status == 200
    assert one.error == ""


def test_redirect_is_not_followed(probe: Prober) -> None:
    """A redirect causes no second request, so the key stays with the configured host."""
    before = len(probe.requests)
    probe("/elsewhere")

    assert len(probe.requests) == before + 1


@pytest.mark.parametrize(
    "path",
    [
        "/gzip",
        "/no-text",
        "/nested",
        "/wait-date",
        "/wait-negative",
        "/wait-nan",
        "/wait-superscript",
        "/wait-twice",
        "/wait-none",
    ],
)
def test_malformed_refusal_breaks_the_contract(probe: Prober, path: str) -> None:
    """A refusal with a malformed body or Retry-After fails "contract" and can be reported."""
    report = probe.report(path)
    contract = next(one for one in report.failed if one.name == "contract")

    assert ("Retry-After" in contract.detail) == (path != "/nested")
    assert "<script" not in as_html(report)
    assert ET.fromstring(as_junit(report)).get("errors") == "0"


@pytest.mark.parametrize("path", ["/feed-refused", "/feed-refused-slowly"])
def test_websocket_closed_after_accept_is_refused(probe: Prober, path: str) -> None:
    """A close with "try again later" is a refusal, together with the handshake and after other frames."""
    one = probe(path, held="websockets")

    assert one.outcome == Outcome.REFUSED
    assert one.hung_up is False


@pytest.mark.parametrize(("path", "held"), [("/feed-greets", "websockets"), ("/dripping-body", "streams")])
def test_open_response_is_held_until_the_client_hangs_up(probe: Prober, path: str, held: str) -> None:
    """Data and frames that arrive meanwhile are skipped."""
    one = probe(path, held=held)

    assert one.outcome == Outcome.ADMITTED
    assert one.hung_up is True
    assert one.held is True
