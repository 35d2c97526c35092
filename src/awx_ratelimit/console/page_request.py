"""What a page handler receives and returns: the routes, the request, and the response before it is rendered. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import parse_qsl

from awx_ratelimit.http.header_values import MAX_BYTES
from awx_ratelimit.http.message import FullRequest
from awx_ratelimit.management.auth.tokens import Owner

Action = Literal[
    "keys", "live", "new", "create", "key", "rename", "rotation", "rotate", "deletion", "delete", "activity", "plans",
    "usage", "usage_csv", "asset",
]  # fmt: skip
_KEYS: Final[Mapping[str, Action]] = {"GET": "keys"}
#: The action of each path and method, below the console's base path.
ROUTES: Final[Sequence[tuple[str, Mapping[str, Action]]]] = (
    ("", _KEYS),
    ("/", _KEYS),
    ("/live", {"GET": "live"}),
    ("/new", {"GET": "new", "POST": "create"}),
    ("/keys/{id}", {"GET": "key", "POST": "rename"}),
    ("/keys/{id}/rotate", {"GET": "rotation", "POST": "rotate"}),
    ("/keys/{id}/delete", {"GET": "deletion", "POST": "delete"}),
    ("/keys/{id}/usage", {"GET": "usage"}),
    ("/keys/{id}/usage.csv", {"GET": "usage_csv"}),
    ("/usage", {"GET": "usage"}),
    ("/usage.csv", {"GET": "usage_csv"}),
    ("/activity", {"GET": "activity"}),
    ("/plans", {"GET": "plans"}),
    ("/static/{id}", {"GET": "asset"}),
)
_MAX_PAGE_NUM: Final = 1_000_000
_MAX_PAGE_DIGITS: Final = 7
_MAX_QUERY_PARAMETERS: Final = 20


@dataclass(frozen=True, slots=True)
class Settings:
    """What the application configures, the same for every page."""

    base: str
    new_account_plan: str | None
    login_url: str | None
    logout_url: str | None
    api_base: str
    try_path: str


class CsrfCookie(NamedTuple):
    """The values of the browser's CSRF cookie, at least one. `is_new`: the browser sent none, and gets this one."""

    values: tuple[str, ...]
    is_new: bool


class PageRequest:
    """A request, the owner who is logged in, and the id of the key in its path."""

    def __init__(self, owner: Owner, full_request: FullRequest, key_id: str, csrf_cookie: CsrfCookie | None) -> None:
        self.owner = owner
        self.full_request = full_request
        self.key_id = key_id
        self.csrf_cookie = csrf_cookie

    @classmethod
    def anonymous(cls, full_request: FullRequest) -> "PageRequest":
        """A request without a login. Its page has no forms."""
        return cls(Owner("", ""), full_request, "", None)

    @property
    def is_logged_in(self) -> bool:
        """Whether the request has an owner."""
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
