"""Probes of a key store: the statements it sends, and look-ups that the test can pause."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

from sqlalchemy import event

from awx_ratelimit.keys import KeyStore

_LOOK_UP = "awx_api_keys.key_hash ="


@contextmanager
def statements(store: KeyStore, *, polls: bool = False) -> Iterator[list[str]]:
    """The statements with which a store reads during a block. Writes of threads do not count, nor do `polls`."""
    sent: list[str] = []
    engine = store._engines.reading

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if polls or "awx_key_changes.number >= " not in statement:
            sent.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", note)


class PausedLookUps:
    """Look-ups that have read from the database, and wait until the test lets them continue."""

    def __init__(self) -> None:
        self.reached = Event()
        self.let_go = Event()
        self.number = 0

    def __call__(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if _LOOK_UP in statement:
            self.number += 1
            self.reached.set()
            assert self.let_go.wait(10), "the test did not let the look-up continue"


@contextmanager
def paused_look_ups(store: KeyStore) -> Iterator[PausedLookUps]:
    """Pause every look-up of a store after it has read, during a block."""
    held = PausedLookUps()
    event.listen(store._engines.reading, "after_cursor_execute", held)
    try:
        yield held
    finally:
        # The listener stays: it cannot be removed while threads use it.
        held.let_go.set()


class Call(Thread):
    """A call in a separate thread, and its outcome."""

    def __init__(self, function: Any, *args: Any) -> None:
        super().__init__(daemon=True)
        self._function = function
        self._args = args
        self.answer: Any = None
        self.start()

    def run(self) -> None:
        try:
            self.answer = self._function(*self._args)
        except Exception as error:
            self.answer = error

    def ended(self) -> Any:
        """The returned value or the raised exception."""
        self.join(10)
        assert not self.is_alive()
        return self.answer
