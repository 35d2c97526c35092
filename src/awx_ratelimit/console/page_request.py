"""What a page handler receives and returns: the request, and the response before it is rendered. Pure.

`Settings` and `ConsoleRequest` are those of both consoles, and `PageRequest` that of the customer's.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from typing import Any, Final, NamedTuple, Protocol, Self
from urllib.parse import parse_qsl

from awx_ratelimit.http.header_values import MAX_BYTES
from awx_ratelimit.http.message import FullRequest
from awx_ratelimit.management.auth.tokens import Owner

_MAX_PAGE_NUM: Final = 1_000_000
_MAX_PAGE_DIGITS: Final = 7
_MAX_QUERY_PARAMETERS: Final = 20


@dataclass(frozen=True, slots=True)
class Settings:
    """What the application configures, the same for every page."""

    base: str
    login_url: str | None
    logout_url: str | None


class User(Protocol):
    """Who is logged in. `actor` is the name in the audit trail."""

    @property
    def actor(self) -> str:
        """The name in the audit trail."""


class CsrfCookie(NamedTuple):
    """The values of the browser's CSRF cookie, at least one. `is_new`: the browser sent none, and gets this one."""

    values: tuple[str, ...]
    is_new: bool


class ConsoleRequest(ABC):
    """A request, the user who is logged in, and the id in its path. Without a login `user` is None."""

    def __init__(
        self, user: User | None, full_request: FullRequest, path_id: str, csrf_cookie: CsrfCookie | None
    ) -> None:
        self.user = user
        self.full_request = full_request
        self.path_id = path_id
        self.csrf_cookie = csrf_cookie

    @classmethod
    def anonymous(cls, full_request: FullRequest) -> Self:
        """A request without a login. Its page has no forms."""
        return cls(None, full_request, "", None)

    @property
    @abstractmethod
    def form_context(self) -> tuple[str, ...]:
        """Whose form it is and, at the end, what it is about. A token is valid only for the same."""

    @property
    def is_logged_in(self) -> bool:
        """Whether somebody is logged in."""
        return self.csrf_cookie is not None

    @cached_property
    def query(self) -> Mapping[str, str]:
        """The query parameters, the last value of each; empty if the query cannot be parsed."""
        if len(self.full_request.query) > MAX_BYTES:
            return {}
        try:
            return dict(parse_qsl(self.full_request.query.decode("ascii"), max_num_fields=_MAX_QUERY_PARAMETERS))
        except ValueError:
            return {}

    @property
    def page_num(self) -> int:
        """The requested page of a list, counted from 1; 1 if the parameter is missing or malformed."""
        text = self.query.get("page", "")
        is_number = text.isascii() and text.isdigit() and len(text) <= _MAX_PAGE_DIGITS
        return min(max(1, int(text)), _MAX_PAGE_NUM) if is_number else 1


class PageRequest(ConsoleRequest):
    """A request to the customer's console. The id in its path is that of a key."""

    @property
    def owner(self) -> Owner:
        """The owner who is logged in."""
        assert isinstance(self.user, Owner)
        return self.user

    @property
    def key_id(self) -> str:
        """The id of the key in the path."""
        return self.path_id

    @property
    def form_context(self) -> tuple[str, ...]:
        """The owner and the key."""
        return (*self.owner, self.key_id)


@dataclass(frozen=True, slots=True)
class Page:
    """A template, its variables, the status, and additional headers."""

    template: str
    variables: Mapping[str, Any] = field(default_factory=dict)
    status: HTTPStatus = HTTPStatus.OK
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class SeeOther:
    """A redirect to `path`, below the base path, after a form succeeded. Reloading the page does not resubmit it."""

    path: str


@dataclass(frozen=True, slots=True)
class Download:
    """A file that the browser saves as `file_name`."""

    text: str
    content_type: str
    file_name: str


@dataclass(frozen=True, slots=True)
class LiveEvent:
    """One server-sent event for an open page, as JSON. The page reconnects after `retry_ms`."""

    data: Mapping[str, Any]
    retry_ms: int


PageResponse = Page | SeeOther | Download | LiveEvent
