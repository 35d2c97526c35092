"""Which of two media types a client prefers, by its Accept header (RFC 9110, section 12.5.1)."""

from collections.abc import Sequence
from typing import Final

from awx_ratelimit.http.header_values import first_bytes

_PROBLEM: Final = b"application/problem+json"
_JSON: Final = b"application/json"
_DECIDING: Final = frozenset((_PROBLEM, _JSON, b"application/*", b"*/*"))
#: More than any browser or library sends.
_MAX_RANGES: Final = 16
_MAX_PARAMETERS: Final = 8


def prefers_problem(accept: Sequence[bytes]) -> bool:
    """Whether `application/problem+json` is wanted more than `application/json`.

    Only the first kilobyte and the first 16 ranges count. A client that sends more loses preferences, nothing else.
    """
    if not accept:
        return False
    text, is_cut = first_bytes(accept)
    text = text.lower()
    if b"problem+json" not in text:
        return False
    weights = _weights(text.rpartition(b",")[0] if is_cut else text)
    return _wanted(weights, _PROBLEM) > _wanted(weights, _JSON)


def accepts_html(accept: Sequence[bytes]) -> bool:
    """Whether `text/html` is in the first kilobyte, as it is with every browser."""
    return b"text/html" in first_bytes(accept)[0].lower()


def _wanted(weights: dict[bytes, float], name: bytes) -> float:
    """The weight of the most specific range that covers it."""
    return next((weights[known] for known in (name, b"application/*", b"*/*") if known in weights), 0.0)


def _weights(text: bytes) -> dict[bytes, float]:
    weights = {}
    for media_range in text.split(b",", _MAX_RANGES)[:_MAX_RANGES]:
        name, _, parameters = media_range.partition(b";")
        name = name.strip()
        if name in _DECIDING:
            weights[name] = _weight(parameters)
    return weights


def _weight(parameters: bytes) -> float:
    stripped = map(bytes.strip, parameters.split(b";", _MAX_PARAMETERS)[:_MAX_PARAMETERS])
    quality = next((parameter for parameter in stripped if parameter.startswith(b"q=")), b"q=1")
    try:
        return float(quality.removeprefix(b"q="))
    except ValueError:
        return 0.0
