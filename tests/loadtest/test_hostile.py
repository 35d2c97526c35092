"""Servers that answer otherwise than they should: each is a verdict in its time, and none is an error of ours."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

import pytest
from tests.loadtest.hostile import hostile

from awx_ratelimit import Concurrency, Plan, Rate
from awx_ratelimit.loadtest.audit.observation import Observation, Outcome
from awx_ratelimit.loadtest.load.client import Client
from awx_ratelimit.loadtest.load.context import LoadContext
from awx_ratelimit.loadtest.report.ci_reports import as_junit
from awx_ratelimit.loadtest.report.html import as_html
from awx_ratelimit.loadtest.report.results import Report
from awx_ratelimit.loadtest.run_config import RunConfig

PLAN = Plan("p", (Rate("rate", 10, 2_000),), Concurrency(3))
TIMEOUT_MS = 400
KEY = "a_key_of_the_test"


class Asked:
    """Asks a hostile server, as a user of Locust does, and reports what was seen."""

    def __init__(self, url: str, requests: list[bytes]) -> None:
        self._url, self.requests = url, requests

    def __call__(self, path: str, *, held: str = "") -> Observation:
        """One request of `path`, or one that is held: a stream or a WebSocket."""
        config = self.config(path)
        context = LoadContext(config, [KEY], seconds_left=60, requests=1, on_request=lambda *_: None)
        client = Client(context, held or "burst")
        until_s = time.monotonic() + TIMEOUT_MS / 1_000
        if held:
            client.hold(lambda: time.monotonic() >= until_s, websocket=held == "websockets")
        else:
            client.send()
        client.reconnect()
        (row,) = context.take_rows()
        return Observation.from_row(row)

    def config(self, path: str) -> RunConfig:
        """What is asked there."""
        return RunConfig(self._url, PLAN, path=path, stream_path=path, websocket_path=path, timeout_ms=TIMEOUT_MS)

    def report(self, path: str) -> Report:
        """The report of one request."""
        return Report.of_run(self.config(path), datetime.now(UTC), [self(path)])


@pytest.fixture(scope="module")
def asked() -> Iterator[Asked]:
    """See Asked."""
    with hostile() as (url, requests):
        yield Asked(url, requests)


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
def test_no_answer_is_a_failure_that_says_why(asked: Asked, path: str, why: str) -> None:
    """Whatever is sent, and however slowly: it takes no longer than a request may, and the verdict is on answers."""
    began_s = time.monotonic()
    report = asked.report(path)
    took_s = time.monotonic() - began_s

    assert [one.name for one in report.failed] == ["answers"]
    assert why in report.failed[0].detail
    assert took_s < 2


@pytest.mark.parametrize("path", ["/hints-first", "/until-it-closes"])
def test_what_is_an_answer_is_one(asked: Asked, path: str) -> None:
    """After hints that come before it, and where its end is that of the connection."""
    one = asked(path)

    assert one.outcome == Outcome.ADMITTED
    assert one.status == 200
    assert one.error == ""


def test_nobody_is_followed_elsewhere(asked: Asked) -> None:
    """A redirection is not gone to, so that the key stays with the host that was named."""
    before = len(asked.requests)
    asked("/elsewhere")

    assert len(asked.requests) == before + 1


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
def test_a_refusal_that_cannot_be_read_breaks_the_contract(asked: Asked, path: str) -> None:
    """Whatever its body and its Retry-After are, it is a refusal; nobody waits by it, and it can be reported."""
    report = asked.report(path)
    contract = next(one for one in report.failed if one.name == "contract")

    assert ("Retry-After" in contract.detail) == (path != "/nested")
    assert "<script" not in as_html(report)
    assert ET.fromstring(as_junit(report)).get("errors") == "0"


@pytest.mark.parametrize("path", ["/feed-refused", "/feed-refused-slowly"])
def test_a_websocket_that_is_accepted_and_closed_is_refused(asked: Asked, path: str) -> None:
    """Its close says to come back later, in one piece with the handshake as well as after other frames."""
    one = asked(path, held="websockets")

    assert one.outcome == Outcome.REFUSED
    assert one.hung_up is False


@pytest.mark.parametrize(("path", "held"), [("/feed-greets", "websockets"), ("/dripping-body", "streams")])
def test_what_goes_on_is_held_until_the_client_leaves(asked: Asked, path: str, held: str) -> None:
    """What is sent in between is read past."""
    one = asked(path, held=held)

    assert one.outcome == Outcome.ADMITTED
    assert one.hung_up is True
    assert one.held is True
