"""Checks of arguments, and how error messages show values.

A message never shows text that may be secret: `type_name` names only the type of a value that could hold an API key
or a password.
"""

from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from awx_ratelimit.errors import InvalidLimit

_MAX_CHARACTERS = 80
_PLAIN = (int, float, str, type(None))
_FUNCTIONS = (BuiltinFunctionType, FunctionType, MethodType)


def check_whole_number(value: object, name: str, *, minimum: int = 1) -> None:
    """Raise InvalidLimit unless `value` is an int of at least `minimum`. A bool is not a number here."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise InvalidLimit(f"{name}: expected an integer >= {minimum}, got {short_repr(value)}")


def exact_int(value: int) -> int:
    """`value` as an exact `int`. Of a subclass, such as IntEnum, only the number counts."""
    return int.__add__(value, 0)


def exact_ms(now_ms: object) -> int:
    """The time that a user's clock has returned, as an exact `int`. Raises TypeError for anything else."""
    if type(now_ms) is int:
        return now_ms
    if isinstance(now_ms, bool) or not isinstance(now_ms, int):
        raise TypeError(f"clock: expected an int from now_ms(), got {describe(now_ms)}; write int(milliseconds)")
    return exact_int(now_ms)


def check_bool(value: object, name: str) -> None:
    """Raise InvalidLimit unless `value` is True or False. Python takes a text such as ``"false"`` for true."""
    if not isinstance(value, bool):
        raise InvalidLimit(f"{name}: expected true or false, got {short_repr(value)}")


def check_seconds(value: Any, name: str, largest: int) -> None:
    """Raise InvalidLimit unless `value` is a number of seconds above 0, up to `largest`."""
    if type(value) not in {int, float} or not 0 < value <= largest:
        raise InvalidLimit(f"{name}: expected a number above 0, up to {largest}, got {short_repr(value)}")


def set_fields(frozen: object, **values: object) -> None:
    """Set fields of a frozen dataclass from its `__init__` or `__post_init__`."""
    for name, value in values.items():
        object.__setattr__(frozen, name, value)


def short_repr(value: object) -> str:
    """`repr(value)`, cut to 80 characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        # Python refuses to print integers of more than 4,300 digits, and a container can contain itself.
        return f"a {type(value).__name__} too large to show"
    return text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}..."


def describe(value: object) -> str:
    """`value` with its type: ``42 (int)``, ``the class Limiter``, ``the function identify`` or ``a dict``."""
    if isinstance(value, _PLAIN):
        return f"{short_repr(value)} ({type(value).__name__})"
    return type_name(value)


def type_name(value: object) -> str:
    """The type of `value` in words, without the value itself."""
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


def escape_unprintable(text: str) -> str:
    r"""`text` with each unprintable character written as an escape such as ``\x1b`` or ``\u202e``.

    Use it for text from outside, such as file names: terminals obey escape sequences, and readers do not see
    characters that reverse the direction of writing.
    """
    return text if text.isprintable() else "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    number = ord(char)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
