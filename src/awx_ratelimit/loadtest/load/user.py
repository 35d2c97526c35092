"""`Profile`: a user of Locust that carries out one thing, once, and what its kinds have in common.

Users pace themselves by the plan and by what they are answered, and judge nothing.
"""

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import gevent
from gevent.pool import Group
from locust import User, constant, task

from awx_ratelimit.loadtest.load.client import Asked, Asking
from awx_ratelimit.loadtest.load.http_client import now_us
from awx_ratelimit.loadtest.load.load import Load, Spent
from awx_ratelimit.loadtest.load.worker_messages import LoadedEnvironment, send_on
from awx_ratelimit.loadtest.run_config import Order

SECOND_US = 1_000_000
#: How long a profile that paces itself goes on at least, and at most.
LEAST_S, MOST_S = 2.0, 15.0
#: Longer than a slot takes to come back, so that a refusal after it speaks of rates alone.
QUIET_S = 0.3


class Profile(User):
    """One user: it carries out its profile once, says so, and waits to be stopped."""

    abstract = True
    name: ClassVar[str]
    wait_time = constant(0)

    @task
    def once(self) -> None:
        """Carry it out."""
        environment = self.environment
        assert isinstance(environment, LoadedEnvironment)
        assert environment.load is not None
        assert environment.runner is not None
        self.load: Load = environment.load
        self.order: Order = self.load.order
        try:
            self.carry_out()
        except Spent:
            pass
        finally:
            # What was seen comes before the word that all was seen.
            send_on(environment)
            environment.runner.send_message("awx_done", {"profile": self.name})
        gevent.sleep(self.order.seconds + 60)

    def carry_out(self) -> None:
        """What this profile does."""
        raise NotImplementedError

    def asking(self, key: int = 0) -> Asking:
        """Requests of this profile."""
        return Asking(self.load, self.name, key)

    @classmethod
    def users(cls, order: Order) -> int:  # noqa: ARG003  # of a kind that looks at it
        """How many of them there are; one where what is asked next depends on what was answered."""
        return 1


def exhaust(asking: Asking, order: Order, *, before_us: int | None = None) -> Asked | None:
    """Ask until there is a refusal, and return it; None where there is none, or none before a time."""
    for _ in range(2 * order.burst + 20):
        if before_us is not None and now_us() >= before_us:
            return None
        asked = asking.ask()
        if asked.refused:
            return asked
    return None


def paced(load: Load, interval_s: float) -> Iterator[None]:
    """Moments `interval_s` apart, for as long as a profile goes on."""
    begin_us = now_us()
    for number in range(int(min(MOST_S, max(LEAST_S, 5 * interval_s)) / interval_s) + 1):
        load.pause_until(begin_us + round(number * interval_s * SECOND_US))
        yield


def at_once(acts: list[Callable[[], Any]]) -> None:
    """All of them together; where one was stopped by Spent, so is the caller, when all have ended."""
    group = Group()
    try:
        ended = [group.spawn(_to_its_end, act) for act in acts]
        group.join()
    finally:
        group.kill()
    if any(one.value for one in ended):
        raise Spent


def _to_its_end(act: Callable[[], Any]) -> bool:
    """Whether it was stopped by Spent, which is no error to be told."""
    try:
        act()
    except Spent:
        return True
    return False
