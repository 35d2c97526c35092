"""Which of two media types a client would rather have, by its Accept header (RFC 9110, section 12.5.1)."""

_PROBLEM = "application/problem+json"
_JSON = "application/json"


def prefers_problem(accept: list[bytes]) -> bool:
    """Whether `application/problem+json` is wanted more than `application/json`."""
    text = b",".join(accept)
    if b"problem+json" not in text.lower():
        return False
    weights = _weights(text.decode("latin-1").lower())
    return _wanted(weights, _PROBLEM) > _wanted(weights, _JSON)


def _wanted(weights: dict[str, float], name: str) -> float:
    """The weight of the most specific range that covers it."""
    return next((weights[known] for known in (name, "application/*", "*/*") if known in weights), 0.0)


def _weights(text: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    for media_range in text.split(","):
        name, *parameters = (part.strip() for part in media_range.split(";"))
        weights[name] = next((_weight(part) for part in parameters if part.startswith("q=")), 1.0)
    return weights


def _weight(parameter: str) -> float:
    try:
        return float(parameter.removeprefix("q="))
    except ValueError:
        return 0.0
