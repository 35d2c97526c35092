"""`Secret`: the text of an API key, which only `reveal` returns.

Whatever shows values implicitly (a log line, an error, a debugger, a pickle) shows the masked form or fails.
"""

from hmac import compare_digest
from typing import Any, NoReturn, final

_LAST = 4


def masked(prefix: str, last4: str) -> str:
    """Return the masked form of a key: ``awx_...x4f2``."""
    return f"{prefix}...{last4}"


@final
class Secret:
    """The text of one key. `str`, `repr` and `format` return its masked form. It cannot be pickled."""

    __slots__ = ("_masked", "_text")

    def __init__(self, text: str, *, prefix: str) -> None:
        self._text = text
        self._masked = masked(prefix, self.last4)

    @property
    def last4(self) -> str:
        """The last four characters. They belong to the checksum, so they do not help to guess the rest."""
        return self._text[-_LAST:]

    def reveal(self) -> str:
        """Return the whole key. Pass it to its owner and store it nowhere."""
        return self._text

    def __str__(self) -> str:
        return self._masked

    def __repr__(self) -> str:
        return f"Secret({self._masked!r})"

    def __format__(self, spec: str) -> str:
        return format(self._masked, spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and compare_digest(self._text.encode(), other._text.encode())

    __hash__ = None  # type: ignore[assignment]  # a dict would keep secrets alive

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Secret":
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret cannot be pickled: only the code that created the key may have it")
