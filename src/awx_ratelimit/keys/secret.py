"""`Secret`: the text of an API key, which nothing shows but `reveal`.

A key is told once, to whoever asked for it. Everything that shows values by itself (a log line, an error, a debugger's
list, a pickle) shows the masked form or refuses.
"""

from hmac import compare_digest
from typing import Any, NoReturn, final

_LAST = 4


def masked(prefix: str, last4: str) -> str:
    """How a key is shown: ``awx_...x4f2``."""
    return f"{prefix}...{last4}"


@final
class Secret:
    """The text of one key. `str`, `repr` and `format` give its masked form; it cannot be pickled."""

    __slots__ = ("_shown", "_text")

    def __init__(self, text: str, *, prefix: str) -> None:
        self._text = text
        self._shown = masked(prefix, self.last4)

    @property
    def last4(self) -> str:
        """The characters that may be shown: they are of the check, and not of what has to be guessed."""
        return self._text[-_LAST:]

    def reveal(self) -> str:
        """The whole key. Hand it to its owner, and keep it nowhere."""
        return self._text

    def __str__(self) -> str:
        return self._shown

    def __repr__(self) -> str:
        return f"Secret({self._shown!r})"

    def __format__(self, spec: str) -> str:
        return format(self._shown, spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and compare_digest(self._text.encode(), other._text.encode())

    __hash__ = None  # type: ignore[assignment]  # a secret is no key of a dict

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Secret":
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret is not pickled: it exists once, where it was made")
