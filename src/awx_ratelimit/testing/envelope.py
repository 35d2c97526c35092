"""Law 4 as a number: by how much what was admitted passes what a continuous rate allows."""


def envelope_excess(admitted: list[tuple[int, int]], *, burst: int, tokens: int, period_ms: int) -> int:
    """By how many units of debt (tokens * period_ms) the admitted costs pass the envelope of any interval, at worst."""
    worst, level, last_ms = -burst * period_ms, 0, admitted[0][0]
    for at_ms, cost in admitted:
        # The worst interval that ends here: Kadane's sum of what came, less what the envelope allows for the time.
        level = max(0, level - tokens * (at_ms - last_ms)) + cost * period_ms
        worst, last_ms = max(worst, level - burst * period_ms), at_ms
    return worst
