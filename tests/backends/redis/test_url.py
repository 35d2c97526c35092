"""The URL of a cluster, and of a service that sentinels watch."""

import re
import traceback
from typing import Any

import pytest

from awx_ratelimit.backends.open import open_async_backend, open_backend
from awx_ratelimit.backends.redis.endpoint import open_endpoint
from awx_ratelimit.backends.redis.url import Address, parse_url

SECRET = "s3cr3t"
NOBODY = {"username": None, "password": None}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://host", Address("redis://host")),
        (
            "redis+cluster://a,b:7001,[::1]:7002",
            Address("redis://localhost/?", (("a", 6379), ("b", 7001), ("::1", 7002)), "", NOBODY),
        ),
        (
            "valkeys+cluster://alice:a%2Fb@a/0?protocol=2&ssl_ca_certs=%2Fca.pem",
            Address("rediss://alice:a%2Fb@localhost/?protocol=2&ssl_ca_certs=%2Fca.pem", (("a", 6379),), "", NOBODY),
        ),
        (
            "redis+sentinel://:secret@a,b:2/my%20service",
            Address("redis://:secret@localhost/?", (("a", 26379), ("b", 2)), "my service", NOBODY),
        ),
        (
            "REDISS+SENTINEL://a/s/3?sentinel_username=bob&sentinel_password=a%26b",
            Address("rediss://localhost/3?", (("a", 26379),), "s", {"username": "bob", "password": "a&b"}),
        ),
        ("valkey+sentinel://a/s?db=3", Address("redis://localhost/?db=3", (("a", 26379),), "s", NOBODY)),
    ],
)
def test_urls_are_parsed(url: str, expected: Address) -> None:
    """The address has the seeds, the service and the URL of one server for redis-py."""
    assert parse_url(url) == expected


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("redis+cluster://", "expected nodes of a cluster and no database but 0, redis+cluster://"),
        ("redis+cluster://a,", "expected nodes of a cluster"),
        ("redis+cluster://a:x", "expected nodes of a cluster"),
        ("redis+cluster://a:70000", "expected nodes of a cluster"),
        ("redis+cluster://[::1", "expected nodes of a cluster"),
        ("redis+cluster://a/1", "expected nodes of a cluster"),
        ("redis+cluster://a?db=1", "got option 'db'; expected one of protocol, and in open_backend"),
        (
            "redis+cluster://a?ssl_ca_certs=/",
            "got option 'ssl_ca_certs' (only with rediss://); expected one of protocol",
        ),
        ("redis+cluster://a#1", "expected nodes of a cluster"),
        ("redis+cluster:a", "expected nodes of a cluster"),
        (f"redis+cluster://:{SECRET}/@a", "expected nodes of a cluster"),
        (f"redis+cluster://:{SECRET}@b@a", "expected nodes of a cluster"),
        ("redis+sentinel://a", "expected sentinels and a service, redis+sentinel://"),
        ("redis+sentinel://a/", "expected sentinels and a service"),
        ("redis+sentinel:///s", "expected sentinels and a service"),
        ("redis+sentinel://a/s/prod", "expected sentinels and a service"),
        ("redis+sentinel://a/s/1/2", "expected sentinels and a service"),
        ("redis+sentinel://a/s?sentinel_password=", "sentinel_password: expected any text"),
        (
            "redis+sentinel://a/s?socket_timeout=1",
            "got option 'socket_timeout'; expected one of protocol, db, sentinel_username",
        ),
        ("unix+cluster://a", "expected one of the schemes redis, rediss"),
    ],
)
def test_wrong_urls_are_refused(url: str, what: str) -> None:
    """The error says what is expected and does not show the password."""
    with pytest.raises(ValueError, match=re.escape(f"redis URL: {what}")) as error:
        parse_url(url)

    assert SECRET not in "".join(traceback.format_exception(error.value))


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("redis://host:port", "port: expected a number from 1 to 65535, as in redis://host:6379"),
        ("redis://host:63790/0/1", "database: expected a number, as in redis://host:6379/0"),
        ("rediss://user:x@host:637900", "port: expected a number from 1 to 65535, as in redis://host:6379"),
        (f"redis://:{SECRET}/x@host", "expected redis://user:password@host:6379/0 or redis+unix:"),
        (f"redis://user:1/{SECRET}@host", "expected redis://user:password@host:6379/0 or redis+unix:"),
        (f"redis://user:{SECRET}", "port: expected a number"),
        ("redis://host/sessions", "database: expected a number, as in redis://host:6379/0"),
        ("redis://host:6379/-1", "database: expected a number, as in redis://host:6379/0"),
        ("redis://host?ssl=true", "got option 'ssl'; for TLS, write rediss://; expected one of protocol, db"),
        (
            "rediss://host?ssl_ca_certs=/no/ca.pem",
            "ssl_ca_certs: expected a file in PEM, got '/no/ca.pem': No such file",
        ),
        ("rediss://host?ssl_certfile=/", "ssl_certfile: expected a file in PEM, got '/': Is a directory"),
    ],
)
def test_wrong_part(url: str, what: str) -> None:
    """The error about the URL of a server names the wrong part, unless that may be a part of the password."""
    with pytest.raises(ValueError, match=re.escape(f"redis URL: {what}")) as error:
        open_endpoint(parse_url(url).client_url, 1.0)

    assert SECRET not in "".join(traceback.format_exception(error.value))


@pytest.mark.parametrize("opened", [open_backend, open_async_backend])
@pytest.mark.parametrize(
    "url", ["redis+cluster://localhost:1?prefix=a{b", "valkeys+sentinel://localhost:1/s?prefix=a{b&protocol=3"]
)
def test_backend_options_are_taken_from_the_query(opened: Any, url: str) -> None:
    """`prefix` in the URL of a cluster or service reaches the backend."""
    with pytest.raises(ValueError, match=r"prefix: .* got 'a\{b'"):
        opened(url)


@pytest.mark.parametrize(
    "url",
    [
        f"redis://user:{SECRET}@localhost:1/2",
        f"redis+sentinel://user:{SECRET}@localhost:1/service/0?sentinel_password={SECRET}",
    ],
)
def test_repr_shows_no_password(url: str) -> None:
    """An error reporter that shows local variables shows no password."""
    address = parse_url(url)

    assert SECRET in address.client_url
    assert SECRET not in repr(address) + repr(open_endpoint(address.client_url, 1.0))
