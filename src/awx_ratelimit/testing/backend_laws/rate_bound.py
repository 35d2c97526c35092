"""Law 4 as a number: how far admitted claims exceed what a continuous rate may admit."""


def rate_bound_excess(admitted: list[tuple[int, int]], *, burst: int, tokens: int, period_ms: int) -> int:
    """Law 4: how far the admitted (time in ms, cost) pairs exceed the bound of a continuous rate in the worst interval.

    The result is in units of debt (tokens * period_ms). It is positive if the rate admitted too much.
    """
    worst, level, last_ms = -burst * period_ms, 0, admitted[0][0]
    for at_ms, cost in admitted:
        # Kadane's algorithm: the worst interval that ends here, less what the bound allows for its duration.
        level = max(0, level - tokens * (at_ms - last_ms)) + cost * period_ms
        worst, last_ms = max(worst, level - burst * period_ms), at_ms
    return worst
