"""What tests see of a store from outside: its statements, and a look-up that is stopped half-way."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

from sqlalchemy import event

from awx_ratelimit.keys import KeyStore

_LOOK_UP = "awx_api_keys.key_hash ="


@contextmanager
def statements(store: KeyStore) -> Iterator[list[str]]:
    """The statements that a store reads with during a block; what threads write meanwhile is not counted."""
    sent: list[str] = []
    engine = store._engines.reading

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", note)


class Held:
    """Look-ups that have read what they read, and are held until they are let go."""

    def __init__(self) -> None:
        self.reached = Event()
        self.let_go = Event()
        self.number = 0

    def __call__(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if _LOOK_UP in statement:
            self.number += 1
            self.reached.set()
            assert self.let_go.wait(10), "nobody let the look-up go"


@contextmanager
def held_look_ups(store: KeyStore) -> Iterator[Held]:
    """Hold every look-up of a store after it has read, for the length of a block."""
    held = Held()
    event.listen(store._engines.reading, "after_cursor_execute", held)
    try:
        yield held
    finally:
        # The listener stays: it cannot be removed while threads are inside.
        held.let_go.set()


class Call(Thread):
    """A call in a thread of its own, and how it ended."""

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
        """What it answered or raised."""
        self.join(10)
        assert not self.is_alive()
        return self.answer
