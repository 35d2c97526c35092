"""The queue of a rule or of a route's limit, whose requests wait for room instead of being refused."""

from typing import Final

from awx_ratelimit.core.validation import check_whole_number
from awx_ratelimit.errors import InvalidLimit
from awx_ratelimit.waiting.lines import MAX_WAITING, Queue

_MAX_WAIT_MS: Final = 86_400_000


def checked_queue(wait_ms: int, max_waiting: int) -> Queue:
    """The queue of requests that wait up to `wait_ms`.

    Raises InvalidLimit or ValueError unless `wait_ms` is 0 to 86,400,000 and `max_waiting` 1 to 10,000.
    """
    check_whole_number(wait_ms, "wait_ms", minimum=0)
    check_whole_number(max_waiting, "max_waiting")
    if wait_ms > _MAX_WAIT_MS:
        raise InvalidLimit(f"wait_ms: expected at most {_MAX_WAIT_MS}, which is a day, got {wait_ms}")
    if max_waiting > MAX_WAITING:
        raise InvalidLimit(f"max_waiting: expected at most {MAX_WAITING}, got {max_waiting}")
    return Queue(max_waiting)
