"""What the compiler must know of a class. Uncompiled classes stay as they are. See docs/compiled.md."""

from typing import TYPE_CHECKING, Any

__all__ = ["mypyc_attr"]

if TYPE_CHECKING:
    # mypyc reads this decorator in the source, so nothing needs the package at run time.
    from mypy_extensions import mypyc_attr
else:

    def mypyc_attr(**_attributes: Any) -> Any:
        """Return a decorator that changes nothing."""
        return lambda decorated: decorated
