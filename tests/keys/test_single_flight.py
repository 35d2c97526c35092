"""Look-ups that several callers share, without a store."""

from collections.abc import Callable
from threading import Event

import pytest
from tests.keys.store_probes import Call

from awx_ratelimit.errors import KeyStoreUnavailable
from awx_ratelimit.keys.verification import single_flight as module
from awx_ratelimit.keys.verification.single_flight import SingleFlight


@pytest.fixture(autouse=True)
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_COOLDOWN_S", 0.0)


def _nothing(_: bytes) -> None:
    return None


def _hanging_once(let_go: Event) -> Callable[[bytes], int]:
    """A look-up that hangs the first time."""
    calls: list[bytes] = []

    def look_up(digest: bytes) -> int:
        calls.append(digest)
        if len(calls) == 1:
            let_go.wait(10)
        return len(calls)

    return look_up


def test_result_that_has_just_arrived() -> None:
    """A caller that arrives just after a result gets it without another look-up."""
    asked: list[bytes] = []
    flights: SingleFlight[int] = SingleFlight(lambda digest: asked.append(digest) or 1, lambda _: 7, 1_000)  # type: ignore[func-returns-value]

    assert flights.get(b"x") == 7
    assert asked == []


def test_hanging_look_up() -> None:
    """After the waiting callers have timed out, the next caller starts a new look-up."""
    let_go = Event()
    flights: SingleFlight[int] = SingleFlight(_hanging_once(let_go), _nothing, 50)
    with pytest.raises(KeyStoreUnavailable, match="within 50 ms"):
        flights.get(b"x")
    # Only the hanging look-up has a short budget: another one may be late on a busy machine.
    flights._budget_s = 30.0
    answer = flights.get(b"x")
    let_go.set()
    flights.close()

    assert answer == 2


def test_failed_look_up() -> None:
    """Each waiting caller gets a separate exception, with the same cause."""

    def fail(_: bytes) -> int:
        raise ArithmeticError("the cause")

    flights: SingleFlight[int] = SingleFlight(fail, _nothing, 1_000)
    errors = [call.ended() for call in [Call(flights.get, b"x") for _ in range(5)]]
    flights.close()

    assert len({id(error) for error in errors}) == 5
    assert {type(error) for error in errors} == {KeyStoreUnavailable}
    assert {str(error) for error in errors} == {"the cause"}
    assert {type(error.__cause__) for error in errors} == {ArithmeticError}
