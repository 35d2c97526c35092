"""Keys for tests of verifiers, and the outcome of a verification."""

from collections.abc import Callable

from awx_ratelimit.errors import KeyRefused
from awx_ratelimit.keys import KeyService, KeyVerifier

DAY_MS = 86_400_000
KEY = b"awx_0123456789ABCDEFGHIJKLMNOPQRSTUV1Ffk2I"
Make = Callable[..., KeyVerifier]


def new_key(service: KeyService, account_id: str = "acme", expires_in_days: int | None = None) -> tuple[str, bytes]:
    """Create a key; its id and its text."""
    created = service.create(account_id, "n", expires_in_days=expires_in_days)
    return created.key.id, created.secret.reveal().encode()


def code_of(verify: Callable[..., object], *args: object) -> str:
    """The code of a refusal; `ok` if there is none."""
    try:
        verify(*args)
    except KeyRefused as error:
        return error.code
    return "ok"
