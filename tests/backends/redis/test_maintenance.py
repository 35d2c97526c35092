"""How long the maintenance thread waits before it sends releases."""

from awx_ratelimit.backends.redis.maintenance_thread import ReleaseDelay


def waits(*late: bool) -> list[float]:
    linger, waited = ReleaseDelay(), []
    for left in late:
        waited.append(linger.seconds)
        linger.adapt(left_over=left)
    return waited


def test_delay_grows_while_claims_carry_releases() -> None:
    """The delay doubles each time, up to its maximum."""
    assert waits(*[False] * 6) == [0.002, 0.004, 0.008, 0.016, 0.016, 0.016]


def test_a_left_over_release_resets_the_delay() -> None:
    """After a release that no claim carried, the next delay is short."""
    assert waits(False, False, True, True) == [0.002, 0.004, 0.008, 0.002]
