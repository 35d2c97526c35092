"""`FunctionLimit`: a limit of functions, for `Limiter.limited` and for the decorators of tasks.

Each function has its own buckets, in its scope and under the subject ``limited:<subject>``.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

from awx_ratelimit.core.budget import EVERYONE, Budget, ScopedSubject, checked_own_scope
from awx_ratelimit.core.claim import check_subject
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.given_limit import plan_of_limit
from awx_ratelimit.core.joint_claim import Cost, JointClaim, Shape, checked_cost, joint_claim
from awx_ratelimit.core.option_names import FUNCTION_HINTS, with_option_hints
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_cache import CostCache
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.core.scope import scope_among
from awx_ratelimit.core.validation import check_whole_number, describe, type_name
from awx_ratelimit.errors import ImpossibleClaim, InvalidLimit, RateLimited
from awx_ratelimit.runtime.documentation import page

#: Begins the subjects of functions.
SUBJECT_PREFIX: Final = "limited:"
#: See `scope_among`.
_OWNERS: Final[dict[str, str]] = {}
#: For the decorators of functions: an unknown option is an error that says what to write.
function_options: Final = with_option_hints(FUNCTION_HINTS)


class FunctionLimit:
    """A limit of functions, each with its own buckets.

    `plan` is a notation such as ``30/minute``, a Rate, or a Plan, whose slots are held while the function runs.
    `subject` says whose limit a call uses: a string, or a function of the call's arguments that returns one. `cost` is
    in tokens, an integer >= 1, a mapping such as ``{"requests": 1, "tokens": 800}``, or a function of the call's
    arguments. `scope` is the name of the buckets, 1 to 32 of ``a-z 0-9 _ -``, which is written before the names of the
    limits; None is the name of the function. Functions with one `scope` share their buckets. A call without room waits
    up to `wait_ms` for it, an integer >= 0; 0 refuses it at once.

    Raises InvalidLimit or TypeError for a wrong argument.
    """

    def __init__(
        self,
        plan: str | Rate | Plan,
        *,
        subject: str | Callable[..., str] = EVERYONE,
        cost: Cost | Callable[..., Cost] = 1,
        scope: str | None = None,
        wait_ms: int = 0,
    ) -> None:
        self._plan = plan_of_limit(plan, "plan", "limited", "@limiter.limited", _variable())
        #: The shapes of claims, by their scope and cost.
        self._shapes: CostCache[Shape] = CostCache()
        self._subject = _checked_subject(subject)
        self._cost = _checked_cost(cost, self._plan)
        self._scope = checked_own_scope(scope)
        check_whole_number(wait_ms, "wait_ms", minimum=0)
        self.wait_ms = wait_ms

    def scope_of(self, function: Any) -> str:
        """The name of the buckets of `function`. Raises TypeError unless it is a function."""
        if not callable(function) or isinstance(function, type | staticmethod | classmethod):
            raise TypeError(
                f"limited: expected a function, got {type_name(function)}; write the decorator next to the `def`"
            )
        if self._scope is None and not hasattr(function, "__qualname__"):
            raise TypeError(f"scope: {type_name(function)} has no name; write scope='...'")
        return self._scope or _scope_of(function)

    def claim(self, scope: str, args: tuple[Any, ...], kwargs: dict[str, Any], *, declared: bool) -> JointClaim:
        """What a call with these arguments asks for. `declared`: it may be given back exactly.

        Raises TypeError for a wrong result of `subject` or `cost`, and ImpossibleClaim for a cost above a burst.
        """
        subject = self._subject(*args, **kwargs) if callable(self._subject) else self._subject
        if not isinstance(subject, str) or not subject:
            raise TypeError(f"limited: subject: expected a non-empty string as the result, got {describe(subject)}")
        cost = self._cost(*args, **kwargs) if callable(self._cost) else self._cost
        if not _is_cost(cost):
            raise TypeError(
                "limited: cost: expected an integer >= 1 or a mapping such as {'tokens': 800} as the result, "
                f"got {describe(cost)}"
            )
        record = ScopedSubject(SUBJECT_PREFIX + subject, scope)
        return JointClaim((record,), self._shape(scope, cost), declared=declared)

    def _shape(self, scope: str, cost: Cost) -> Shape:
        key = scope, cost if isinstance(cost, int) else tuple(cost.items())
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._shapes.keep(key, joint_claim((Budget("any", self._plan, scope),), cost).shape, cost)
        return shape


def refusal(name: str, decision: Decision) -> RateLimited:
    """The error for a refused call of the function `name`."""
    seconds = max(1, -(-decision.retry_after_ms // 1_000))
    plural = "" if seconds == 1 else "s"
    return RateLimited(f"Too many calls of {name}. Retry after {seconds} second{plural}.", decision=decision)


def _scope_of(function: Any) -> str:
    """The scope of `function`: its name, with a hash if another function has that name, such as in another module."""
    return scope_among(_OWNERS, name_of(function), function.__qualname__, function)


def name_of(function: Any) -> str:
    """The name of `function` in messages."""
    name: str = getattr(function, "__qualname__", type(function).__name__)
    return name.rpartition("<locals>.")[2]


def _variable() -> str:
    return f"the arguments of the call; see {page('tasks', 'a-limit-that-depends-on-the-call')}"


def _checked_subject(subject: Any) -> str | Callable[..., str]:
    if callable(subject) and not inspect.iscoroutinefunction(subject):
        return subject  # type: ignore[no-any-return]
    if inspect.iscoroutinefunction(subject):
        raise TypeError(f"subject: expected a string or a plain function, got {describe(subject)}, which is async")
    check_subject(subject)
    return str(subject)


def _checked_cost(cost: Any, plan: Plan) -> Cost | Callable[..., Cost]:
    if callable(cost) and not inspect.iscoroutinefunction(cost):
        return cost  # type: ignore[no-any-return]
    if not _is_cost(cost):
        raise InvalidLimit(f"cost: expected an integer >= 1 or a plain function, got {describe(cost)}")
    try:
        return joint_claim((Budget("any", plan),), cost).shape.cost
    except ImpossibleClaim as error:
        raise InvalidLimit(str(error)) from None


def _is_cost(cost: object) -> bool:
    if isinstance(cost, Mapping):
        try:
            checked_cost(cost)
        except ValueError:
            return False
        return True
    return isinstance(cost, int) and not isinstance(cost, bool) and cost >= 1
