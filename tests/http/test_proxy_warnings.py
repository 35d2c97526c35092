"""A proxy that hides its clients is pointed out once, with the setting that separates them."""

import logging
from typing import Any

import pytest

from awx_ratelimit import Caller, Gate, KeyRefused, Limiter, MemoryBackend, Plan, PlanTable, Request
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


@pytest.mark.parametrize("client", ["127.0.0.1", "10.0.0.9", "203.0.113.9", "2001:db8::1", None])
@pytest.mark.parametrize(
    "forwarding", [{"x_forwarded_for": "198.51.100.7"}, {"forwarded": 'for="198.51.100.7"'}], ids=["xff", "forwarded"]
)
def test_a_peer_that_forwards_and_is_not_trusted_is_named_once(caplog: Any, client: Any, forwarding: Any) -> None:
    """The first request without a key says which address to put where; later ones say nothing."""
    (warning,) = Log(caplog).send(client, 50, **forwarding).warnings

    assert warning.startswith(f"{client or 'unix'} sends ")
    assert warning.endswith(f"name it in trusted_proxies: ['{client or 'unix'}']")


def test_a_second_proxy_that_is_not_named_is_seen_too(caplog: Any) -> None:
    """Where the wrong network is named, the warning names the right one."""
    (warning,) = Log(caplog, 1_000, "127.0.0.1").send("172.17.0.1", 3, x_forwarded_for="198.51.100.7").warnings

    assert "['172.17.0.1']" in warning


def test_an_unknown_key_from_a_proxy_is_enough(caplog: Any) -> None:
    """Unknown keys count against an address, so a proxy that hides clients is named then too."""
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
def test_what_is_no_hidden_client_is_not_warned_of(caplog: Any, client: str, headers: Any) -> None:
    """No line for direct clients, for servers that have read the header themselves, and where no address is used."""
    assert Log(caplog).send(client, 100, **headers).warnings == []


@pytest.mark.parametrize("client", ["127.0.0.1", "10.0.0.9", "fd00::1", None])
def test_a_private_peer_that_is_refused_again_and_again_is_named(caplog: Any, client: str | None) -> None:
    """Many refused requests from one private address look like a proxy whose header was removed."""
    log = Log(caplog, 1).send(client, 5)
    assert log.warnings == []

    (warning,) = log.send(client, 50).warnings
    assert warning.startswith(f"{client or 'unix'} is refused again and again")
    assert "waitress" in warning
    assert f"trusted_proxies: ['{client or 'unix'}']" in warning


def test_wrong_keys_from_one_private_peer_name_it_too(caplog: Any) -> None:
    """A private address that is stopped for unknown keys may be a proxy with many clients."""
    (warning,) = Log(caplog).send("127.0.0.1", 40, x_api_key="wrong").warnings

    assert "trusted_proxies: ['127.0.0.1']" in warning


@pytest.mark.parametrize("headers", [{"x_forwarded_for": "10.0.0.9"}, {"x_forwarded_for": "198.51.100.7, 10.0.0.9"}])
def test_a_private_client_whose_server_read_the_header_is_itself(caplog: Any, headers: Any) -> None:
    """A server that put its client in the place of the peer is no reason to warn."""
    assert Log(caplog, 1).send("10.0.0.9", 50, **headers).warnings == []


def test_a_public_client_that_is_refused_is_itself(caplog: Any) -> None:
    """One client of the internet may be refused as often as it likes."""
    assert Log(caplog, 1).send("9.9.9.9", 50).warnings == []


def test_a_trusted_proxy_that_does_not_forward_is_named_once(caplog: Any) -> None:
    """A few requests of a trusted proxy without the header say who may have removed it."""
    log = Log(caplog, 1_000, "127.0.0.1").send("127.0.0.1", 4)
    assert log.warnings == []

    (warning,) = log.send("127.0.0.1", 50).warnings
    assert warning.startswith("trusted_proxies names 127.0.0.1, but its requests carry no X-Forwarded-For")
    assert "waitress" in warning


def test_a_trusted_proxy_that_is_refused_does_not_forward(caplog: Any) -> None:
    """A trusted proxy that reaches the limit itself is named at once."""
    (warning,) = Log(caplog, 1, "unix").send(None, 2).warnings

    assert warning.startswith("trusted_proxies names unix")


def test_health_checks_of_a_trusted_proxy_are_no_reason(caplog: Any) -> None:
    """Once a trusted proxy has forwarded, its own requests without the header are not warned of."""
    log = Log(caplog, 1_000, "127.0.0.1").send("127.0.0.1", 3).send("127.0.0.1", x_forwarded_for="198.51.100.7")

    assert log.send("127.0.0.1", 100).warnings == []


def test_looking_for_proxies_ends(caplog: Any) -> None:
    """After a thousand requests without a proxy nothing is looked at any more, so it costs nothing."""
    log = Log(caplog, 10_000).send("203.0.113.9", 1_000)
    looked_up = log.looked_up
    log.send("203.0.113.9", 100)

    assert looked_up == 2_000
    assert log.looked_up == looked_up


def test_a_client_cannot_write_into_the_log(caplog: Any) -> None:
    """What a client sends in the headers is in no warning."""
    (warning,) = Log(caplog).send("203.0.113.9", x_forwarded_for="evil\r\nERROR").warnings

    assert "evil" not in warning
