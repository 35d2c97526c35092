"""`Stops`: the first signal ends a run with its report, the second ends it sooner, the third aborts it."""

import signal
from types import FrameType, TracebackType
from typing import Final, Self

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_MAX_SIGNALS: Final = 2


class Stops:
    """Counts the signals SIGINT, SIGTERM and SIGHUP while it is entered. The third one raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self._count = 0
        self._previous: dict[signal.Signals, object] = {}

    def __call__(self) -> int:
        return self._count

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            # A signal that is ignored, as under nohup or in the background, stays ignored.
            if (before := signal.getsignal(number)) is not signal.SIG_IGN:
                self._previous[number] = before
                signal.signal(number, self._on_signal)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, before in self._previous.items():
            signal.signal(number, before)  # type: ignore[arg-type]  # from getsignal

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._count += 1
        if self._count > _MAX_SIGNALS:
            raise KeyboardInterrupt
