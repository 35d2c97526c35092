"""If a proxy hides its clients, the log names the setting that separates them, once."""

import logging
from typing import Any

import pytest

from awx_ratelimit import Caller, Gate, KeyRefused, Limiter, MemoryBackend, Plan, PlanTable, Request
from awx_ratelimit.http.explain import request_to
from awx_ratelimit.testing import ManualClock

PLANS = PlanTable([Plan.of("p", per_minute=60)], default="p")


class Log:
    """A gate for clients without a key, and what it logs."""

    def __init__(self, caplog: pytest.LogCaptureFixture, per_minute: int = 1_000, *trusted: str) -> None:
        self._caplog = caplog
        caplog.set_level(logging.WARNING, "awx_ratelimit")
        self.looked_up = 0
        self.gate = Gate(
            Limiter(MemoryBackend(clock=ManualClock(10**9))),
            plans=PLANS,
            identify=self._identify,
            anonymous=Plan.of("anonymous", per_minute=per_minute),
            trusted_proxies=trusted,
        )

    def _identify(self, request: Request) -> Caller | None:
        key = request.header("x-api-key")
        if key == "wrong":
            raise KeyRefused
        return Caller(key) if key else None

    def send(self, client: str | None, times: int = 1, **headers: str) -> "Log":
        lines = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}

        def values(name: bytes) -> list[bytes]:
            self.looked_up += name in (b"x-forwarded-for", b"forwarded")
            return [lines[name]] if name in lines else []

        for _ in range(times):
            self.gate.admit(Request("GET", "/", client, values))
        return self

    @property
    def warnings(self) -> list[str]:
        return [record.getMessage() for record in self._caplog.records]


NO_ADDRESS = "a peer without an IP address (a unix socket, or a test client)"


@pytest.mark.parametrize("client", ["127.0.0.1", "10.0.0.9", "203.0.113.9", "2001:db8::1", None])
@pytest.mark.parametrize(
    "forwarding", [{"x_forwarded_for": "198.51.100.7"}, {"forwarded": 'for="198.51.100.7"'}], ids=["xff", "forwarded"]
)
def test_untrusted_proxy(caplog: Any, client: Any, forwarding: Any) -> None:
    """The first request without a key logs which address to trust; later ones log nothing."""
    (warning,) = Log(caplog).send(client, 50, **forwarding).warnings

    assert warning.startswith(f"{client or NO_ADDRESS} sends ")
    assert warning.endswith(f"name it in trusted_proxies: ['{client or 'unix'}']. See docs/deployment.md")


def test_wrong_network_is_trusted(caplog: Any) -> None:
    """If the wrong network is trusted, the warning names the right one."""
    (warning,) = Log(caplog, 1_000, "127.0.0.1").send("172.17.0.1", 3, x_forwarded_for="198.51.100.7").warnings

    assert "['172.17.0.1']" in warning


def test_unknown_key_from_a_proxy(caplog: Any) -> None:
    """Unknown keys count against an address, so they cause the warning too."""
    (warning,) = Log(caplog).send("10.0.0.9", 30, x_api_key="wrong", x_forwarded_for="198.51.100.7").warnings

    assert "name it in trusted_proxies: ['10.0.0.9']" in warning


@pytest.mark.parametrize(
    ("client", "headers"),
    [
        ("203.0.113.9", {}),
        ("203.0.113.9", {"x_forwarded_for": "203.0.113.9"}),
        ("203.0.113.9", {"x_forwarded_for": "198.51.100.7, 203.0.113.9"}),
        ("203.0.113.9", {"forwarded": "for=203.0.113.9"}),
        ("10.0.0.9", {"x_api_key": "k", "x_forwarded_for": "198.51.100.7"}),
        ("10.0.0.9", {"x_api_key": "k"}),
    ],
)
def test_no_warning(caplog: Any, client: str, headers: Any) -> None:
    """Direct clients, servers that have read the header, and requests with a key cause no warning."""
    assert Log(caplog).send(client, 100, **headers).warnings == []


@pytest.mark.parametrize("client", ["127.0.0.1", "10.0.0.9", "fd00::1", None])
def test_private_peer_over_its_limit(caplog: Any, client: str | None) -> None:
    """Many refusals for one private address suggest a proxy whose header was removed."""
    log = Log(caplog, 1).send(client, 5)
    assert log.warnings == []

    (warning,) = log.send(client, 50).warnings
    assert warning.startswith(f"{client or NO_ADDRESS} is refused again and again")
    assert "waitress" in warning
    assert f"trusted_proxies: ['{client or 'unix'}']" in warning


def test_test_client(caplog: Any) -> None:
    """The warning about a test client says what to write in the test."""
    (warning,) = Log(caplog, 1).send("testclient", 9).warnings

    assert warning.startswith(NO_ADDRESS)
    assert warning.endswith(
        ". In a test, send a key, or give the client an address: TestClient(app, client=('192.0.2.1', 50000)). "
        "See docs/deployment.md"
    )


def test_throttled_private_peer(caplog: Any) -> None:
    """A private address that is throttled for unknown keys may be a proxy."""
    (warning,) = Log(caplog).send("127.0.0.1", 40, x_api_key="wrong").warnings

    assert "trusted_proxies: ['127.0.0.1']" in warning


@pytest.mark.parametrize("headers", [{"x_forwarded_for": "10.0.0.9"}, {"x_forwarded_for": "198.51.100.7, 10.0.0.9"}])
def test_private_client_set_by_the_server(caplog: Any, headers: Any) -> None:
    """If the server set the peer from the header, there is no warning."""
    assert Log(caplog, 1).send("10.0.0.9", 50, **headers).warnings == []


def test_public_client_over_its_limit(caplog: Any) -> None:
    """Refusals for a public address cause no warning."""
    assert Log(caplog, 1).send("9.9.9.9", 50).warnings == []


def test_trusted_proxy_without_header(caplog: Any) -> None:
    """After a few requests without the header, the log says what may have removed it."""
    log = Log(caplog, 1_000, "127.0.0.1").send("127.0.0.1", 4)
    assert log.warnings == []

    (warning,) = log.send("127.0.0.1", 50).warnings
    assert warning.startswith("trusted_proxies names 127.0.0.1, but its requests carry no X-Forwarded-For")
    assert "waitress" in warning


def test_refused_trusted_proxy(caplog: Any) -> None:
    """A trusted proxy that reaches the limit itself causes the warning at once."""
    (warning,) = Log(caplog, 1, "unix").send(None, 2).warnings

    assert warning.startswith("trusted_proxies names unix")


def test_health_checks(caplog: Any) -> None:
    """Once a trusted proxy has forwarded, its own requests cause no warning."""
    log = Log(caplog, 1_000, "127.0.0.1").send("127.0.0.1", 3).send("127.0.0.1", x_forwarded_for="198.51.100.7")

    assert log.send("127.0.0.1", 100).warnings == []


def test_checks_end(caplog: Any) -> None:
    """After a thousand requests without a proxy, the headers are not read any more."""
    log = Log(caplog, 10_000).send("203.0.113.9", 1_000)
    looked_up = log.looked_up
    log.send("203.0.113.9", 100)

    assert looked_up == 2_000
    assert log.looked_up == looked_up


def test_log_contains_no_client_text(caplog: Any) -> None:
    """Nothing that a client sends is in a warning."""
    (warning,) = Log(caplog).send("203.0.113.9", x_forwarded_for="evil\r\nERROR").warnings

    assert "evil" not in warning


@pytest.mark.parametrize("trusted", [(), ("127.0.0.1",)], ids=["untrusted", "trusted"])
def test_explained_requests(caplog: Any, trusted: tuple[str, ...]) -> None:
    """A request that is only explained warns of nothing, and uses up no check of the requests that clients send."""
    log = Log(caplog, 1_000, *trusted)
    for _ in range(1_001):
        log.gate.explain(request_to(log.gate, "GET", "/", {"Forwarded": "for=198.51.100.7"}, "127.0.0.1"))
    explained = [*log.warnings]
    log.send("127.0.0.1", 5, forwarded="for=198.51.100.7")

    assert explained == []
    assert len(log.warnings) == 1


@pytest.mark.parametrize("network", ["0.0.0.0/0", "::/0"])
def test_everybody_is_trusted(caplog: Any, network: str) -> None:
    """A network that contains every address is named before the first request, with the page about proxies."""
    log = Log(caplog, 1_000, "10.0.0.7", network)

    assert len(log.warnings) == 1
    assert f"trusted_proxies names {network}, which contains every address" in log.warnings[0]
    assert "docs/deployment.md" in log.warnings[0]


def test_a_large_network_is_trusted(caplog: Any) -> None:
    """A network of proxies is no warning, whatever its size."""
    assert Log(caplog, 1_000, "10.0.0.0/8", "unix").warnings == []
