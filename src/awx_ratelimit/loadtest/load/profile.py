"""`Profile`: a Locust user that executes one traffic pattern once, its environment, and what several profiles use.

Profiles choose their requests by the plan and by earlier responses. They judge nothing; the audit does.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import gevent
from gevent.pool import Group
from locust import User, constant, task
from locust.env import Environment

from awx_ratelimit.loadtest.load.client import BudgetSpent, Client, LoadContext, RequestResult
from awx_ratelimit.loadtest.load.http_client import now_us
from awx_ratelimit.loadtest.run_config import RunConfig

_SEND_INTERVAL_S = 0.25
#: How long a paced profile goes on at least, and at most.
MIN_PACED_S, MAX_PACED_S = 2.0, 15.0
#: Longer than a gateway needs to release a slot, so that a refusal after this pause is one by rates.
SLOT_RELEASE_S = 0.3


class LoadEnvironment(Environment):
    """Locust's environment. `load_context` is None until `begin` has the run's configuration."""

    load_context: LoadContext | None = None

    def begin(self, config: RunConfig, keys: Sequence[str], *, seconds_left: float, requests: int) -> None:
        """Create the context that the users of this process share, and send its observations from now on."""
        context = LoadContext(config, keys, seconds_left=seconds_left, requests=requests, on_request=self._on_request)
        self.load_context = context
        self.events.test_stop.add_listener(self._on_stop)  # type: ignore[no-untyped-call]  # Locust has no types here
        gevent.spawn(self._send_rows_regularly, context)

    def send_rows(self) -> None:
        """Send new observations to the runner that collects them: in this process, or the master's."""
        context, runner = self.load_context, self.runner
        if context is None or runner is None:
            return
        runner.send_message("awx_rows", {**context.take_rows(), "abort_reason": context.abort_reason})

    def _on_stop(self, **_: Any) -> None:
        """Send the requests that were in flight when Locust killed its users."""
        self.send_rows()

    def _on_request(self, method: str, profile: str, ms: float, error: str | None) -> None:
        self.events.request.fire(  # type: ignore[no-untyped-call]  # Locust has no types here
            request_type=method, name=profile, response_time=ms, response_length=0,
            exception=None if error is None else RuntimeError(error), context={},
        )  # fmt: skip

    def _send_rows_regularly(self, context: LoadContext) -> None:
        while self.load_context is context:
            gevent.sleep(_SEND_INTERVAL_S)
            self.send_rows()


class Profile(User):
    """One user. It executes its profile once, reports that it is done, and waits until Locust stops it."""

    abstract = True
    #: The name of the class in lower case.
    name: ClassVar[str]
    wait_time = constant(0)

    def __init_subclass__(cls) -> None:
        cls.name = cls.__name__.lower()

    @task
    def execute_once(self) -> None:
        """Execute the profile."""
        environment = self.environment
        assert isinstance(environment, LoadEnvironment)
        assert environment.load_context is not None
        assert environment.runner is not None
        self.load_context: LoadContext = environment.load_context
        self.config: RunConfig = self.load_context.config
        is_complete = False
        try:
            self.execute()
            is_complete = True
        except BudgetSpent:
            pass
        finally:
            # The observations must arrive before the message that the profile is done.
            environment.send_rows()
            environment.runner.send_message("awx_done", {"complete": is_complete})
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
