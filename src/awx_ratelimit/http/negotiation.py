"""Content negotiation: the media type that a client prefers, by its Accept header (RFC 9110, section 12.5.1)."""

from collections.abc import Sequence
from typing import Final

from awx_ratelimit.http.header_values import first_bytes

_PROBLEM: Final = b"application/problem+json"
_JSON: Final = b"application/json"
_MATCHING_RANGES: Final = frozenset((_PROBLEM, _JSON, b"application/*", b"*/*"))
#: Browsers and HTTP libraries send fewer.
_MAX_RANGES: Final = 16
_MAX_PARAMETERS: Final = 8


def prefers_problem(accept: Sequence[bytes]) -> bool:
    """Whether the client prefers `application/problem+json` to `application/json`.

    Only the first kilobyte and the first 16 ranges count. The rest is ignored.
    """
    if not accept:
        return False
    text, is_cut = first_bytes(accept)
    text = text.lower()
    if b"problem+json" not in text:
        return False
    qualities = _qualities(text.rpartition(b",")[0] if is_cut else text)
    return _quality_of(qualities, _PROBLEM) > _quality_of(qualities, _JSON)


def accepts_html(accept: Sequence[bytes]) -> bool:
    """Whether `text/html` is in the first kilobyte. Every browser sends it there."""
    return b"text/html" in first_bytes(accept)[0].lower()


def _quality_of(qualities: dict[bytes, float], media_type: bytes) -> float:
    """The quality of the most specific range that covers `media_type`; 0 if none does."""
    return next((qualities[name] for name in (media_type, b"application/*", b"*/*") if name in qualities), 0.0)


def _qualities(text: bytes) -> dict[bytes, float]:
    qualities = {}
    for media_range in text.split(b",", _MAX_RANGES)[:_MAX_RANGES]:
        name, _, parameters = media_range.partition(b";")
        name = name.strip()
        if name in _MATCHING_RANGES:
            qualities[name] = _quality(parameters)
    return qualities


def _quality(parameters: bytes) -> float:
    stripped = map(bytes.strip, parameters.split(b";", _MAX_PARAMETERS)[:_MAX_PARAMETERS])
    quality = next((parameter for parameter in stripped if parameter.startswith(b"q=")), b"q=1")
    try:
        return float(quality.removeprefix(b"q="))
    except ValueError:
        return 0.0
