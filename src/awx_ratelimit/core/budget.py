"""`Budget`: a subject with a plan. A claim names one or more budgets, which are decided together."""

import re
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, NamedTuple, TypeAlias

from awx_ratelimit.core.claim import check_plan, checked_subject
from awx_ratelimit.core.plan import MAX_CACHED_PLANS, Plan
from awx_ratelimit.core.validation import describe
from awx_ratelimit.errors import InvalidLimit

MAX_SCOPE_LENGTH: Final = 32
#: The scope of the limits that all keys of an account share.
ACCOUNT_SCOPE: Final = "account"
#: The scope and the subject of the limits that everybody shares.
SERVICE_SCOPE: Final = "service"
SERVICE_SUBJECT: Final = "service"
#: The subject of the limits of rules, routes and functions that everybody shares.
EVERYONE: Final = "everyone"
#: No rule, route or function may have one of these.
RESERVED_SCOPES: Final = (ACCOUNT_SCOPE, SERVICE_SCOPE)
is_scope = re.compile(rf"[a-z0-9_-]{{1,{MAX_SCOPE_LENGTH}}}").fullmatch


class ScopedSubject(NamedTuple):
    """The buckets of a subject in one scope."""

    subject: str
    scope: str


#: Ends the scope of a record whose subject is its own account. No other scope has this character.
_ALONE: Final = "="


def scope_alone(scope: str) -> str:
    """The scope of the records of subjects without an account, so that an account of the same name has others."""
    return scope + _ALONE


def is_alone(scope: str) -> bool:
    """Whether `scope` is that of a record of a subject without an account."""
    return scope.endswith(_ALONE)


def scopes_to_reset(scope: str | None) -> tuple[str | None, ...]:
    """The scopes of the records that `scope` names: those of accounts, and of subjects without one. None: all."""
    return (None,) if scope is None else (scope, scope_alone(scope))


#: What a backend stores together: all buckets of a subject in one scope. Without a scope it is the subject itself.
Record: TypeAlias = str | ScopedSubject


def subject_of(record: Record) -> str:
    """The subject whose buckets a record has."""
    return record if isinstance(record, str) else record.subject


def record_scope(record: Record) -> str | None:
    """The scope of the buckets of a record."""
    return None if isinstance(record, str) else record.scope


def checked_scope(scope: Any, name: str = "scope") -> str | None:
    """Return `scope`. Raises InvalidLimit unless it is None or a name that a scope can have.

    `name` is the name of the argument.
    """
    if scope is None or (isinstance(scope, str) and is_scope(scope)):
        return scope
    raise InvalidLimit(f"{name}: expected 1 to {MAX_SCOPE_LENGTH} of a-z, 0-9, _ and -, got {describe(scope)}")


def checked_own_scope(scope: Any, name: str = "scope") -> str | None:
    """Return the `scope` of a rule, a route or a function. Raises InvalidLimit for a wrong or reserved one."""
    if scope in RESERVED_SCOPES:
        raise InvalidLimit(
            f"{name}: expected another name than {' and '.join(map(repr, RESERVED_SCOPES))}, which plan tables use, "
            f"got {scope!r}"
        )
    return checked_scope(scope, name)


def scoped_name(scope: str | None, limit: str) -> str:
    """The name of a limit with its scope: ``account.minute``."""
    return limit if scope is None else f"{scope}.{limit}"


@dataclass(frozen=True, slots=True, init=False)
class Budget:
    """The limits of `plan` for `subject`.

    Buckets belong to a subject, a scope and the name of a limit. `scope` is 1 to 32 of ``a-z 0-9 _ -``, and is written
    before the names of the limits: ``account.minute``. Budgets without a scope share the buckets of their subject.

    Raises TypeError for a subject that is not a non-empty string and a plan that is not a Plan, and InvalidLimit for a
    wrong scope.
    """

    subject: str
    plan: Plan
    scope: str | None
    record: Record = field(init=False, repr=False, compare=False)
    #: The number of the plan and the scope: what the shape of a claim depends on, without the cost of hashing a Plan.
    kind: int = field(init=False, repr=False, compare=False)

    def __init__(self, subject: str, plan: Plan, scope: str | None = None) -> None:
        if type(subject) is not str or not subject:
            subject = checked_subject(subject)
        try:
            kind, _, scope = _kinds[id(plan), scope]
        except (KeyError, TypeError):
            kind, _, scope = _add_kind(plan, scope)
        _set_subject(self, subject)
        _set_plan(self, plan)
        _set_scope(self, scope)
        _set_record(self, subject if scope is None else _new(ScopedSubject, (subject, scope)))
        _set_kind(self, kind)

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process counts kinds differently.
        return Budget, (self.subject, self.plan, self.scope)


# The setters of the slots: `object.__setattr__` looks each of them up.
_set_subject, _set_plan, _set_scope, _set_record, _set_kind = (
    vars(Budget)[name].__set__ for name in ("subject", "plan", "scope", "record", "kind")
)
#: See "Creating tuples" in docs/hot-path.md.
_new = tuple.__new__


def own_account(subject: str, plan: Plan, scope: str = ACCOUNT_SCOPE) -> Budget:
    """The limits `plan` that a subject without an account has for itself alone, where accounts share them."""
    budget = Budget(subject, plan, scope)
    _set_record(budget, ScopedSubject(budget.subject, scope_alone(scope)))
    return budget


_next_kind = count(1).__next__
#: By the id of a plan and a scope, which are correct: their number, which nothing else ever gets, and themselves. An
#: entry keeps its plan alive, so that no other has its id.
_kinds: dict[tuple[int, str | None], tuple[int, Plan, str | None]] = {}


def _add_kind(plan: Any, scope: Any) -> tuple[int, Plan, str | None]:
    check_plan(plan)
    if checked_scope(scope) is not None:
        # Of a subclass of str only the text counts.
        scope = str.__str__(scope)
    if len(_kinds) >= MAX_CACHED_PLANS:
        _kinds.clear()
    kind = _kinds[id(plan), scope] = _next_kind(), plan, scope
    return kind
