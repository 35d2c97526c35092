"""From the errors of databases and drivers to this library's own, in one place, with the cause kept."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from awx_ratelimit.errors import KeyStoreUnavailable, KeyStoreUnusable

#: A file that no waiting mends.
_UNUSABLE: Final = frozenset({"SQLITE_NOTADB", "SQLITE_CORRUPT"})


@contextmanager
def answered(store: str) -> Iterator[None]:
    """Raise KeyStoreUnavailable, or KeyStoreUnusable, that names `store` for whatever a database raises inside.

    The text says what the database said; parameters of statements are not in it.
    """
    try:
        yield
    except SQLAlchemyError as error:
        said = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        text = f"the key store {store} gives no answer: {' '.join(str(said).split()) or type(said).__name__}"
        if getattr(said, "sqlite_errorname", None) in _UNUSABLE:
            raise KeyStoreUnusable(f"{text}: put a copy back, or name another file") from error
        raise KeyStoreUnavailable(text) from error
