"""Requests in flight when Locust kills its users, because the run is cut."""

from typing import Any, NoReturn

import pytest
from gevent import GreenletExit
from tests.loadtest.hostile import hostile

from awx_ratelimit import Concurrency, Plan, Rate
from awx_ratelimit.loadtest.audit.observation import Observation, Outcome
from awx_ratelimit.loadtest.load.client import Client, LoadContext
from awx_ratelimit.loadtest.load.http_client import Target
from awx_ratelimit.loadtest.run_config import RunConfig

PLAN = Plan("p", (Rate("rate", 10, 2_000),), Concurrency(3))


def context_of(url: str, path: str) -> LoadContext:
    """The context of a run whose requests go to `path`."""
    config = RunConfig(url, PLAN, stream_path=path, websocket_path=path)
    return LoadContext(config, [], seconds_left=60, requests=1, on_request=lambda *_: None)


@pytest.mark.parametrize(
    ("path", "held", "at_once", "expected"),
    [
        ("/dripping-body", "streams", False, Outcome.ADMITTED),
        ("/dripping-body", "streams", True, Outcome.ADMITTED),
        ("/refusal-slowly", "streams", True, Outcome.UNFINISHED),
        ("/feed-greets", "websockets", False, Outcome.ADMITTED),
        # A refusal may follow the handshake.
        ("/feed-greets", "websockets", True, Outcome.UNFINISHED),
    ],
)
def test_killed_while_open(path: str, held: str, at_once: bool, expected: Outcome) -> None:
    """A request that is open when its user is killed is known, before and after, as one whose client hung up.

    It is killed `at_once` after its response has begun, or when the client has seen that it stays open.
    """
    snapshots: list[dict[str, Any]] = []

    def until() -> bool:
        snapshots.append(context.take_rows())
        if at_once or Observation.from_row(snapshots[-1]["in_flight"][0]).held:
            raise GreenletExit
        return False

    with hostile() as (url, _):
        context = context_of(url, path)
        client = Client(context, held)
        with pytest.raises(GreenletExit):
            client.hold(until, websocket=held == "websockets")
        client.reconnect()
    after = context.take_rows()
    (before,), (one,) = [list(map(Observation.from_row, rows)) for rows in (snapshots[-1]["in_flight"], after["rows"])]

    assert after["in_flight"] == []
    assert snapshots[-1]["rows"] == []
    assert before.outcome == one.outcome == expected
    assert one.sent_us == before.sent_us <= before.ended_us <= one.ended_us <= after["known_until_us"]
    assert one.hung_up
    assert one.held == (not at_once)


def test_killed_before_the_response(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request without a response is unfinished, which is no fault of the gateway."""

    def connect(_: Target) -> NoReturn:
        raise GreenletExit

    monkeypatch.setattr(Target, "connect", connect)
    context = context_of("http://127.0.0.1:1", "/")
    with pytest.raises(GreenletExit):
        Client(context, "burst").send()
    (one,) = map(Observation.from_row, context.take_rows()["rows"])

    assert one.outcome == Outcome.UNFINISHED
    assert one.status == 0
    assert one.error == ""
    assert context.abort_reason == ""
