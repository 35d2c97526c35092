"""`Visit`: one request of whoever is logged in; `Page` and `SeeOther`: what it is answered with, before it is drawn."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from awx_ratelimit.http.header_values import MAX_BYTES
from awx_ratelimit.http.message import WholeRequest
from awx_ratelimit.management.auth.claims import Owner

_MOST_PAGE = 1_000_000
_MOST_DIGITS = 7
_NOBODY = Owner("", "")


class Browser(NamedTuple):
    """The browser that forms are given to, by the values of its cookie; `is_new`: it has none yet."""

    cookies: tuple[str, ...]
    is_new: bool


class Visit:
    """Who asks, for what, and from which browser."""

    def __init__(self, owner: Owner, whole: WholeRequest, key_id: str, browser: Browser | None) -> None:
        self.owner = owner
        self.whole = whole
        self.key_id = key_id
        self.browser = browser

    @classmethod
    def of_nobody(cls, whole: WholeRequest) -> "Visit":
        """A request of whoever is not logged in, for a page without forms."""
        return cls(_NOBODY, whole, "", None)

    @cached_property
    def query(self) -> Mapping[str, str]:
        """The words of the query, the last of each name; what cannot be read is none. Pages take what they know."""
        if len(self.whole.query) > MAX_BYTES:
            return {}
        try:
            return dict(parse_qsl(self.whole.query.decode("ascii"), max_num_fields=20))
        except ValueError:
            return {}

    @property
    def cookies(self) -> tuple[str, ...]:
        """The values of the browser's cookie; there is at least one."""
        assert self.browser is not None  # whoever is nobody sees no form
        return self.browser.cookies

    @property
    def page_num(self) -> int:
        """Which page of several is asked for, from 1."""
        text = self.query.get("page", "")
        known = text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
        return min(max(1, int(text)), _MOST_PAGE) if known else 1


@dataclass(frozen=True, slots=True)
class Page:
    """A template and what it shows, the status, and header lines more."""

    template: str
    shown: Mapping[str, Any] = field(default_factory=dict)
    status: HTTPStatus = HTTPStatus.OK
    more: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class SeeOther:
    """It is done; what comes of it is seen at `path`, below the base. So a reload changes nothing again."""

    path: str


@dataclass(frozen=True, slots=True)
class Event:
    """One event for an open page, as JSON; `every_ms` is when it is to ask again."""

    said: Mapping[str, Any]
    every_ms: int


Answered = Page | SeeOther | Event
