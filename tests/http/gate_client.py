"""A client of a gate, for tests."""

from typing import Any

from awx_ratelimit import Caller, Gate, KeyRefused, Limiter, MemoryBackend, Plan, PlanTable, Request
from awx_ratelimit.http.policy import Admission
from awx_ratelimit.testing import ManualClock

PLANS = PlanTable([Plan.of("p", per_minute=60, concurrent=2)], default="p")


class Client:
    """Sends requests to a gate, and counts the look-ups of keys. Keys that begin with ``wrong`` are unknown."""

    def __init__(self, **fields: Any) -> None:
        self.looked_up = 0
        self.clock = ManualClock(1_000_000)
        self.limiter = Limiter(MemoryBackend(clock=self.clock))
        self.gate = Gate(self.limiter, **{"plans": PLANS, "identify": self._identify, **fields})

    def _identify(self, request: Request) -> Caller | None:
        self.looked_up += 1
        key = request.header("X-API-Key")
        if key and key.startswith("wrong"):
            raise KeyRefused
        return Caller(key) if key else None

    def send(self, path: str = "/", method: str = "GET", client: str | None = "192.0.2.1", **headers: str) -> Admission:
        lines = {name.replace("_", "-"): value.encode("latin-1") for name, value in headers.items()}
        values = lambda name: [lines[name.decode()]] if name.decode() in lines else []  # noqa: E731  # a header look-up
        return self.gate.admit(Request(method, path, client, values))

    def status(self, *arguments: Any, **headers: Any) -> int:
        admission = self.send(*arguments, **headers)
        self.gate.release(admission.decision) if admission.decision else None
        return admission.reply.status if admission.reply else 200
