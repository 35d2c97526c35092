"""`Profile`: a Locust user that executes one traffic pattern once, and functions that several profiles use.

Profiles choose their requests by the plan and by earlier responses. They judge nothing; the audit does.
"""

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import gevent
from gevent.pool import Group
from locust import User, constant, task

from awx_ratelimit.loadtest.audit.observation import SECOND_US
from awx_ratelimit.loadtest.load.client import Client, RequestResult
from awx_ratelimit.loadtest.load.context import BudgetSpent, LoadContext
from awx_ratelimit.loadtest.load.environment import LoadEnvironment
from awx_ratelimit.loadtest.load.http_client import now_us
from awx_ratelimit.loadtest.run_config import RunConfig

#: How long a paced profile goes on at least, and at most.
MIN_PACED_S, MAX_PACED_S = 2.0, 15.0
#: Longer than a gateway needs to release a slot, so that a refusal after this pause is one by rates.
SLOT_RELEASE_S = 0.3


class Profile(User):
    """One user. It executes its profile once, reports that it is done, and waits until Locust stops it."""

    abstract = True
    name: ClassVar[str]
    wait_time = constant(0)

    @task
    def execute_once(self) -> None:
        """Execute the profile."""
        environment = self.environment
        assert isinstance(environment, LoadEnvironment)
        assert environment.load_context is not None
        assert environment.runner is not None
        self.load_context: LoadContext = environment.load_context
        self.config: RunConfig = self.load_context.config
        try:
            self.execute()
        except BudgetSpent:
            pass
        finally:
            # The observations must arrive before the message that the profile is done.
            environment.send_rows()
            environment.runner.send_message("awx_done", {"profile": self.name})
        gevent.sleep(self.config.seconds + 60)

    def execute(self) -> None:
        """Send the requests of this profile."""
        raise NotImplementedError

    def new_client(self, key: int = 0) -> Client:
        """A client that sends requests of this profile with key number `key`."""
        return Client(self.load_context, self.name, key)

    @classmethod
    def user_count(cls, config: RunConfig) -> int:  # noqa: ARG003  # profiles with several users read it
        """The number of users; one if the next request depends on the last response."""
        return 1


def send_until_refused(client: Client, config: RunConfig, *, before_us: int | None = None) -> RequestResult | None:
    """Send requests until one is refused, and return its result; None if none is, or none before `before_us`."""
    for _ in range(2 * config.burst + 20):
        if before_us is not None and now_us() >= before_us:
            return None
        result = client.send()
        if result.refused:
            return result
    return None


def paced(context: LoadContext, interval_s: float) -> Iterator[None]:
    """Iterate once every `interval_s`, for the duration of a paced profile."""
    begin_us = now_us()
    for number in range(int(min(MAX_PACED_S, max(MIN_PACED_S, 5 * interval_s)) / interval_s) + 1):
        context.pause_until(begin_us + round(number * interval_s * SECOND_US))
        yield


def run_together(acts: list[Callable[[], Any]]) -> None:
    """Run all functions concurrently. Raises BudgetSpent after all have ended if one of them raised it."""
    group = Group()
    try:
        greenlets = [group.spawn(_spends_budget, act) for act in acts]
        group.join()
    finally:
        group.kill()
    if any(greenlet.value for greenlet in greenlets):
        raise BudgetSpent


def _spends_budget(act: Callable[[], Any]) -> bool:
    """Run `act` and return whether it raised BudgetSpent. gevent would print an error that leaves a greenlet."""
    try:
        act()
    except BudgetSpent:
        return True
    return False
