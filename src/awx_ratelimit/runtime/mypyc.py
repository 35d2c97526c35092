"""What the compiler must know of classes and numbers. Without it, nothing changes. See docs/compiled.md."""

from typing import TYPE_CHECKING, Any

__all__ = ["i64", "mypyc_attr"]

if TYPE_CHECKING:
    # mypyc reads these names in the source, so nothing needs the package at run time.
    from mypy_extensions import i64, mypyc_attr
else:
    #: An integer of 64 bits, for numbers that are known to fit.
    i64 = int

    def mypyc_attr(**_attributes: Any) -> Any:
        """Return a decorator that changes nothing."""
        return lambda decorated: decorated
