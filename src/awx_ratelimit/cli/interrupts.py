"""`Stops`: whoever wants a command to end has to wait for its report; twice for less, three times for nothing."""

import signal
from types import FrameType, TracebackType
from typing import Final, Self

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PATIENCE: Final = 2


class Stops:
    """How often it was asked to end while it is entered: Ctrl-C, a supervisor's SIGTERM, a terminal that is closed."""

    def __init__(self) -> None:
        self._asked = 0
        self._before: dict[signal.Signals, object] = {}

    def __call__(self) -> int:
        return self._asked

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            # Under nohup, or in the background, somebody has said that it is not to be heard.
            if (before := signal.getsignal(number)) is not signal.SIG_IGN:
                self._before[number] = before
                signal.signal(number, self._count)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)  # type: ignore[arg-type]  # what getsignal has told

    def _count(self, _number: int, _frame: FrameType | None) -> None:
        self._asked += 1
        if self._asked > _PATIENCE:
            raise KeyboardInterrupt
