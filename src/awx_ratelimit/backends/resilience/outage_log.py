"""Logs the begin and the end of the outage of a server, once each, whoever finds out that it answers again."""

import logging
import time
from collections.abc import Hashable
from typing import Final, Literal

_log = logging.getLogger("awx_ratelimit")
OnOutage = Literal["local", "open", "closed"]
#: What a process has done with the claims of an outage. A request may be several claims.
_DONE: Final = {"local": "decided %d claims by itself", "open": "allowed %d claims", "closed": "refused %d claims"}
#: Servers that are gone for good, as those of a cluster whose addresses change, are forgotten beyond so many.
_MAX_SERVERS: Final = 100
_LOG_INTERVAL_S: Final = 60.0


class OutageLog:
    """See the module. `decisions` is how many claims this process has decided without the backend until now."""

    def __init__(self, on_outage: OnOutage) -> None:
        self._on_outage = on_outage
        #: For each server that has not answered since: when its outage began, and `decisions` then.
        self.began: dict[Hashable, tuple[float, int]] = {}
        #: When a message may be logged again.
        self._log_from_s: dict[str, float] = {}

    def begin(self, server: Hashable, decisions: int, why: str) -> None:
        self.began[server] = time.monotonic(), decisions
        if len(self.began) > _MAX_SERVERS:
            self.began.pop(next(iter(self.began)), None)
        _log.error("the backend does not answer, and limits are %s until it does: %s", self._on_outage, why)

    def at_once(self, message: str, error: Exception) -> None:
        """Log an error that waiting does not mend. Every claim meets it, so this logs it at most once a minute."""
        now_s = time.monotonic()
        if now_s >= self._log_from_s.get(message, now_s):
            self._log_from_s[message] = now_s + _LOG_INTERVAL_S
            _log.error(message, self._on_outage, error)

    def end(self, server: Hashable, decisions: int) -> None:
        """The server has answered. Does nothing if that is known already."""
        began = self.began.pop(server, None)
        if began is not None:
            message = f"the backend answers again, after %.1f s in which this process {_DONE[self._on_outage]}"
            _log.warning(message, time.monotonic() - began[0], decisions - began[1])

    def renew(self, decisions: int) -> None:
        """In a child process: the parent counts its own claims."""
        self.began = {server: (began_s, decisions) for server, (began_s, _) in self.began.items()}

    def end_all(self, decisions: int) -> None:
        """All servers have answered."""
        for server in self.began.copy():
            self.end(server, decisions)
