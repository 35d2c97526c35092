"""`PageHandlers`: the pages that only read.

The number of statements per page does not grow with the keys.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from awx_ratelimit.console import view_models
from awx_ratelimit.console.forms import EMPTY_FORM
from awx_ratelimit.console.live import live_event
from awx_ratelimit.console.page_context import PageContext
from awx_ratelimit.console.page_request import LiveEvent, Page, PageRequest, PageResponse
from awx_ratelimit.console.plan_table import plan_table
from awx_ratelimit.console.routes import Action
from awx_ratelimit.keys.models import ApiKey
from awx_ratelimit.keys.service import KeyService

#: Keys per page. The usage of each is looked up separately.
PAGE_SIZE: Final = 50
_HISTORY_SIZE: Final = 20
_NOTES: Final = {"deleted": "Key deleted. Requests with it are now refused.", "renamed": "Key renamed."}
#: The filters of the table, by the value of the parameter `show`.
_FILTERS: Final[Mapping[str, Callable[[KeyService, str], Sequence[ApiKey]]]] = {
    "old": KeyService.stale,
    "unused": KeyService.unused,
}


class _KeyList(NamedTuple):
    """One page of the keys table. `show` is the filter, empty for all keys."""

    show: str
    keys: Sequence[ApiKey]
    total: int
    page_num: int

    @property
    def has_more(self) -> bool:
        return self.page_num * PAGE_SIZE < self.total


class PageHandlers:
    """The table of keys, the page of a key, the audit trail, the plans, and the empty forms."""

    def __init__(self, context: PageContext) -> None:
        self._context = context
        self.handlers: Mapping[Action, Callable[[PageRequest], PageResponse]] = {
            "keys": self._keys,
            "live": self._live,
            "key": self.key_page,
            "new": lambda _: Page("new.html", EMPTY_FORM),
            "rotation": partial(self.form_page, template="rotate.html"),
            "deletion": partial(self.form_page, template="delete.html"),
            "activity": self._activity,
            "plans": self._plans,
        }

    def key_page(
        self, request: PageRequest, form: Mapping[str, Any] = EMPTY_FORM, status: HTTPStatus = HTTPStatus.OK
    ) -> Page:
        """The page of one key. `form` is the state of the form that renames it."""
        context, owner, now = self._context, request.owner, self._context.now()
        key = context.keys.get(owner.account_id, request.key_id)
        usage = context.usage(context.account(owner), [key])
        events = context.keys.events(owner.account_id, key_id=key.id, page_size=_HISTORY_SIZE)
        variables = {
            "row": view_models.key_row(key, usage.by_key, now),
            "shared": view_models.usage_bars(usage.shared),
            "quotas": usage.quotas,
            "steps": self._rotation_steps(request, key),
            "entries": [view_models.activity_entry(event) for event in events.items],
            "note": _note(request),
            **form,
        }
        return Page("key.html", variables, status)

    def form_page(
        self,
        request: PageRequest,
        form: Mapping[str, Any] = EMPTY_FORM,
        status: HTTPStatus = HTTPStatus.OK,
        *,
        template: str,
    ) -> Page:
        """A page with a form about one key."""
        key = self._context.keys.get(request.owner.account_id, request.key_id)
        return Page(template, {"row": view_models.key_row(key, None, self._context.now()), **form}, status)

    def _keys(self, request: PageRequest) -> Page:
        context, owner = self._context, request.owner
        account = context.account(owner)
        filtered = {name: find(context.keys, owner.account_id) for name, find in _FILTERS.items()}
        listed = self._key_list(request, filtered)
        usage, now, plan = context.usage(account, listed.keys), context.now(), context.plan(owner, account)
        return Page(
            "keys.html",
            {
                "rows": [view_models.key_row(key, usage.by_key, now) for key in listed.keys],
                "shared": view_models.usage_bars(usage.shared),
                "quotas": usage.quotas,
                "listed": listed,
                "counts": {name: len(keys) for name, keys in filtered.items()},
                "account": account,
                "plan": plan,
                "note": _note(request),
            },
        )

    def _key_list(self, request: PageRequest, filtered: Mapping[str, Sequence[ApiKey]]) -> _KeyList:
        show, num = request.query.get("show", ""), request.page_num
        if show in filtered:
            keys = filtered[show]
            return _KeyList(show, keys[(num - 1) * PAGE_SIZE : num * PAGE_SIZE], len(keys), num)
        page = self._context.keys.list(request.owner.account_id, page_num=num, page_size=PAGE_SIZE)
        return _KeyList("", page.items, page.total, num)

    def _live(self, request: PageRequest) -> LiveEvent:
        context, owner = self._context, request.owner
        account = context.account(owner)
        if "key" in request.query:
            key = context.key(owner, request.query["key"])
            keys: Sequence[ApiKey] = [] if key is None else [key]
        else:
            show = request.query.get("show", "")
            filtered = {name: find(context.keys, owner.account_id) for name, find in _FILTERS.items() if name == show}
            keys = self._key_list(request, filtered).keys
        return live_event(keys, context.usage(account, keys), context.now())

    def _rotation_steps(self, request: PageRequest, key: ApiKey) -> tuple[view_models.RotationStep, ...]:
        """The steps of the rotation that the key takes part in, as the old key or as the new one."""
        context, now = self._context, self._context.now()
        replacement = context.key(request.owner, key.replaced_by)
        if replacement is not None:
            return view_models.rotation_steps(key, replacement, now)
        if key.rotated_from is None:
            return ()
        return view_models.rotation_steps(context.key(request.owner, key.rotated_from), key, now)

    def _activity(self, request: PageRequest) -> Page:
        page = self._context.keys.events(request.owner.account_id, page_num=request.page_num, page_size=PAGE_SIZE)
        entries = [view_models.activity_entry(event) for event in page.items]
        return Page("activity.html", {"entries": entries, "page": page})

    def _plans(self, request: PageRequest) -> Page:
        account = self._context.account(request.owner)
        own = self._context.plan(request.owner, account)
        # `own`, with its overrides, takes the place of the table's plan of that name.
        plans = {plan.name: plan for plan in (*self._context.plans.plans, *([own] if own else ()))}
        table = plan_table(list(plans.values()), own)
        return Page("plans.html", {"table": table, "own": own, "account": account})


def _note(request: PageRequest) -> str:
    return _NOTES.get(request.query.get("note", ""), "")
