"""How long the thread of a Redis backend waits before it sends what was released."""

from awx_ratelimit.backends.redis.maintenance_thread import ReleaseDelay


def waits(*late: bool) -> list[float]:
    linger, waited = ReleaseDelay(), []
    for left in late:
        waited.append(linger.seconds)
        linger.adapt(left_over=left)
    return waited


def test_while_claims_take_releases_along_the_thread_looks_less_often() -> None:
    """It waits twice as long each time, and never longer than a release of an idle process may be late."""
    assert waits(*[False] * 6) == [0.002, 0.004, 0.008, 0.016, 0.016, 0.016]


def test_a_release_that_no_claim_took_makes_the_next_wait_short() -> None:
    """Where claims no longer come, what follows is not late again."""
    assert waits(False, False, True, True) == [0.002, 0.004, 0.008, 0.002]
