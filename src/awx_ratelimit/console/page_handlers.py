"""`Reading`: the pages that change nothing. Each costs a number of statements that does not grow with the keys."""

from collections.abc import Callable, Mapping, Sequence
from secrets import choice
from typing import Any, Final, NamedTuple

from awx_ratelimit.console import activity, view_models
from awx_ratelimit.console.page_context import Sources
from awx_ratelimit.console.page_request import Answered, Event, Page, Visit
from awx_ratelimit.console.routes import Shown
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.keys.models import Account, ApiKey

#: So many keys are on one page: their usage is asked for one by one.
PAGE_SIZE: Final = 50
#: How often an open page asks how its keys stand: not each as often, so that pages that began together do not go on so.
EVERY_MS: Final = range(1_800, 2_200)
_NOTES: Final = {"deleted": "The key is deleted: it is accepted no more.", "renamed": "The key has its new name."}


class _Chosen(NamedTuple):
    """The keys of one page of the table, and what there is beside."""

    show: str
    keys: Sequence[ApiKey]
    total: int
    page_num: int

    @property
    def has_more(self) -> bool:
        return self.page_num * PAGE_SIZE < self.total


class Reading:
    """The table, a key, what was done, the plans, and the empty forms."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self.acts: Mapping[Shown, Callable[[Visit], Answered]] = {
            "keys": self._keys,
            "usage": self._usage,
            "key": self._key,
            "new": lambda _: Page("new.html", EMPTY_FORM),
            "rotation": self._rotation,
            "deletion": self._deletion,
            "activity": self._activity,
            "plans": self._plans,
        }

    def _keys(self, visit: Visit) -> Page:
        sources, owner = self._sources, visit.owner
        account = sources.account(owner)
        stale, unused = sources.keys.stale(owner.account_id), sources.keys.unused(owner.account_id)
        lists = {"old": stale, "unused": unused}
        chosen = self._chosen(visit, lists)
        usage, now = sources.usage(account, chosen.keys), sources.now()
        return Page(
            "keys.html",
            {
                "rows": [view_models.row(key, usage, now) for key in chosen.keys],
                "chosen": chosen,
                "counts": {name: len(keys) for name, keys in lists.items()},
                "account": account,
                "plan": self._own_plan_row(visit, account),
                "is_live": usage is not None,
                "note": _NOTES.get(visit.query.get("note", ""), ""),
            },
        )

    def _chosen(self, visit: Visit, lists: Mapping[str, Sequence[ApiKey]]) -> _Chosen:
        show, num = visit.query.get("show", ""), visit.page_num
        if show in lists:
            found = lists[show]
            return _Chosen(show, found[(num - 1) * PAGE_SIZE : num * PAGE_SIZE], len(found), num)
        page = self._sources.keys.list(visit.owner.account_id, page_num=num, page_size=PAGE_SIZE)
        return _Chosen("", page.items, page.total, num)

    def _usage(self, visit: Visit) -> Event:
        """How the keys of an open page stand now."""
        sources, account_id = self._sources, visit.owner.account_id
        account = sources.account(visit.owner)
        if "key" in visit.query:
            key = sources.key(visit.owner, visit.query["key"])
            keys: Sequence[ApiKey] = [] if key is None else [key]
        else:
            show = visit.query.get("show", "")
            lists: dict[str, Sequence[ApiKey]] = {}
            if show == "old":
                lists[show] = sources.keys.stale(account_id)
            elif show == "unused":
                lists[show] = sources.keys.unused(account_id)
            keys = self._chosen(visit, lists).keys
        usage, now = sources.usage(account, keys), sources.now()
        rows = [view_models.row(key, usage, now) for key in keys]
        return Event({"known": usage is not None, "keys": {row.key.id: _live(row) for row in rows}}, choice(EVERY_MS))

    def _key(self, visit: Visit) -> Page:
        return self.key_page(visit, {})

    def key_page(self, visit: Visit, more: Mapping[str, Any]) -> Page:
        """All there is to say of one key."""
        sources, owner, now = self._sources, visit.owner, self._sources.now()
        key = sources.keys.get(owner.account_id, visit.key_id)
        usage = sources.usage(sources.account(owner), [key])
        events = sources.keys.events(owner.account_id, key_id=key.id, page_size=20)
        shown = {
            "row": view_models.row(key, usage, now),
            "steps": self._steps(visit, key),
            "lines": [activity.line(event) for event in events.items],
            "note": _NOTES.get(visit.query.get("note", ""), ""),
            "error": None,
            "name": key.name,
        }
        return Page("key.html", shown | dict(more))

    def _steps(self, visit: Visit, key: ApiKey) -> tuple[activity.Step, ...]:
        """The steps of the rotation that the key is in, as the old one or as the new one."""
        sources, now = self._sources, self._sources.now()
        successor = sources.key(visit.owner, key.replaced_by)
        if successor is not None:
            return activity.steps(key, successor, now)
        if key.rotated_from is None:
            return ()
        return activity.steps(sources.key(visit.owner, key.rotated_from), key, now)

    def _rotation(self, visit: Visit) -> Page:
        return self.form_page(visit, "rotate.html", EMPTY_FORM)

    def _deletion(self, visit: Visit) -> Page:
        return self.form_page(visit, "delete.html", EMPTY_FORM)

    def form_page(self, visit: Visit, template: str, more: Mapping[str, Any]) -> Page:
        """A form about one key."""
        key = self._sources.keys.get(visit.owner.account_id, visit.key_id)
        return Page(template, {"row": view_models.row(key, None, self._sources.now()), **more})

    def _activity(self, visit: Visit) -> Page:
        page = self._sources.keys.events(visit.owner.account_id, page_num=visit.page_num, page_size=PAGE_SIZE)
        lines = [activity.line(event) for event in page.items]
        return Page("activity.html", {"lines": lines, "page": page, "now": self._sources.now()})

    def _plans(self, visit: Visit) -> Page:
        account = self._sources.account(visit.owner)
        own = self._sources.plan(visit.owner, account)
        rows = [view_models.plan_row(plan, own) for plan in self._plans_with(own)]
        return Page("plans.html", {"rows": rows, "own": own, "account": account})

    def _plans_with(self, own: Plan | None) -> list[Plan]:
        """The plans of the table, and in the place of the account's own its numbers, which may be other ones."""
        plans = [own if own is not None and plan.name == own.name else plan for plan in self._sources.plans.plans]
        return plans if own is None or own in plans else [*plans, own]

    def _own_plan_row(self, visit: Visit, account: Account | None) -> view_models.PlanRow | None:
        plan = self._sources.plan(visit.owner, account)
        return None if plan is None else view_models.plan_row(plan, plan)


EMPTY_FORM: Final[Mapping[str, Any]] = {"error": None, "sent": {}}


def _live(row: view_models.Row) -> dict[str, Any]:
    bars = {bar.limit: [bar.used, bar.text] for bar in row.bars or ()}
    return {"last_used": row.last_used, "bars": bars}
