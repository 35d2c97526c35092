"""How an error shows what was given, and the checks that every claim shares.

An error never shows text that may be secret: a value that could hold an API key or a password is named by its type.
"""

from types import BuiltinFunctionType, FunctionType, MethodType

from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import shown
from awx_ratelimit.errors import InvalidLimit

_PLAIN = (int, float, str, type(None))
_FUNCTIONS = (BuiltinFunctionType, FunctionType, MethodType)


def given(value: object) -> str:
    """`value` for an error: ``42 (int)``, ``the class Limiter``, ``the function identify`` or ``a dict``."""
    if isinstance(value, _PLAIN):
        return f"{shown(value)} ({type(value).__name__})"
    return kind(value)


def kind(value: object) -> str:
    """What `value` is, without the value itself."""
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, _FUNCTIONS):
        return f"the function {value.__qualname__}"
    name = type(value).__name__
    if name == "bytes":
        return name
    return f"{'an' if name[0] in 'AEIOaeio' else 'a'} {name}"


def check_subject(subject: object, name: str = "subject") -> None:
    """Raise TypeError unless `subject` is a string of at least one character."""
    if isinstance(subject, str) and subject:
        return
    if isinstance(subject, Plan):
        raise TypeError(f"{name} is a Plan; put the subject first and the plan second: acquire(subject, plan)")
    wanted = "a non-empty string" if isinstance(subject, str) else "a string"
    # Bytes may be an API key.
    raise TypeError(f'{name} is {given(subject)}; use {wanted} such as f"user_{{user.id}}"')


def check_plan(plan: object) -> None:
    """Raise TypeError unless `plan` is a Plan."""
    if isinstance(plan, Plan):
        return
    if isinstance(plan, str):
        raise TypeError(
            f"plan is {given(plan)}; use a Plan, or look one up: table.resolve(Caller(subject, {shown(plan)}))"
        )
    raise TypeError(f'plan is {given(plan)}; use a Plan such as STARTER or Plan.of("api", per_minute=60)')


def check_true_or_false(name: str, value: object) -> None:
    """Raise InvalidLimit unless `value` is True or False. A text such as ``"false"`` is true to Python."""
    if not isinstance(value, bool):
        raise InvalidLimit(f"{name} is {shown(value)}; allowed are True and False")


def check_asked(subject: object, plan: object) -> None:
    """Raise TypeError unless a claim can be made of `subject` and `plan`."""
    check_subject(subject)
    check_plan(plan)
