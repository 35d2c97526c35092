"""`LoadEnvironment`: Locust's environment with this process's `LoadContext`; it sends observations to the runner."""

from collections.abc import Sequence

import gevent
from locust.env import Environment

from awx_ratelimit.loadtest.load.context import LoadContext
from awx_ratelimit.loadtest.run_config import RunConfig

_SEND_INTERVAL_S = 0.25


class LoadEnvironment(Environment):
    """Locust's environment. `load_context` is None until `begin` has the run's configuration."""

    load_context: LoadContext | None = None

    def begin(self, config: RunConfig, keys: Sequence[str], *, seconds_left: float, requests: int) -> None:
        """Create the context that the users of this process share, and send its observations from now on."""
        context = LoadContext(config, keys, seconds_left=seconds_left, requests=requests, on_request=self._on_request)
        self.load_context = context
        gevent.spawn(self._send_rows_regularly, context)

    def send_rows(self) -> None:
        """Send new observations to the runner that collects them: in this process, or the master's."""
        context, runner = self.load_context, self.runner
        if context is None or runner is None:
            return
        if (rows := context.take_rows()) or context.abort_reason:
            runner.send_message("awx_rows", {"rows": rows, "abort_reason": context.abort_reason})

    def _on_request(self, method: str, profile: str, ms: float, error: str | None) -> None:
        self.events.request.fire(  # type: ignore[no-untyped-call]  # Locust has no types here
            request_type=method, name=profile, response_time=ms, response_length=0,
            exception=None if error is None else RuntimeError(error), context={},
        )  # fmt: skip

    def _send_rows_regularly(self, context: LoadContext) -> None:
        while self.load_context is context:
            gevent.sleep(_SEND_INTERVAL_S)
            self.send_rows()
