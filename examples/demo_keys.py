"""The keys of the demo, in its own store: created, rotated and revoked over the server's REST API.

The API needs an access token. A login service would issue it; here the demo signs it itself.
"""

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
import jwt
from examples.wallet_api import AUDIENCE, ISSUER
from examples.wallet_login import login_path, operator_login_path

from awx_ratelimit.keys import KeyService, KeyStore

TOKEN_SECONDS = 3600
#: A host's file may still hold the charges of earlier runs: every run has its own accounts.
_RUN = secrets.token_hex(4)


class NoKey(Exception):
    """The REST API refused a call; the text is its answer."""


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A key and its id. The API shows the key once."""

    id: str
    key: str


@dataclass(frozen=True, slots=True)
class Keys:
    """A store with an account per tier, and the secret that signs tokens."""

    database: str
    secret: str

    def token(self, tier: str) -> str:
        """An access token for the keys of that tier's account."""
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": account_of(tier), "exp": int(time.time()) + TOKEN_SECONDS}
        return jwt.encode(claims, self.secret, algorithm="HS256")

    def login_path(self, tier: str) -> str:
        """A path that logs you in to the console of that account, once."""
        return login_path(account_of(tier), self.secret)

    def operator_login_path(self) -> str:
        """A path that logs you in to the operator's console, once."""
        return operator_login_path("you@example.com", self.secret)


class KeyManager:
    """Manages the keys of one account. Every method raises NoKey."""

    def __init__(self, http: httpx2.AsyncClient, token: str) -> None:
        self._http = http
        self._headers = {"Authorization": f"Bearer {token}"}

    async def create(self, name: str) -> MadeKey:
        """Create a key."""
        return _made(await self._call("POST", "", {"name": name}))

    async def rotate(self, key_id: str, *, grace_seconds: int) -> MadeKey:
        """Create a key's successor. The old key works for another `grace_seconds`."""
        return _made(await self._call("POST", f"/{key_id}/rotate", {"grace_period_seconds": grace_seconds}))

    async def revoke(self, key_id: str) -> None:
        """Revoke a key."""
        await self._call("DELETE", f"/{key_id}", None)

    async def _call(self, method: str, path: str, body: dict[str, object] | None) -> httpx2.Response:
        response = await self._http.request(method, f"/api/v1/api-keys{path}", json=body, headers=self._headers)
        if not response.is_success:
            raise NoKey(f"{method} /api/v1/api-keys{path}: {response.status_code} {response.text[:200]}")
        return response


@contextmanager
def own_keys(tiers: Sequence[str]) -> Iterator[Keys]:
    """A store in a temporary folder."""
    with TemporaryDirectory(prefix="awx-demo-") as folder:
        database = str(Path(folder) / "keys.db")
        store = KeyStore.open(database)
        accounts = KeyService(store).accounts
        for tier in tiers:
            accounts.create(account_of(tier), plan=tier)
        store.close()
        yield Keys(database, secrets.token_urlsafe(32))


def account_of(tier: str) -> str:
    """The account whose keys have the plan of that name."""
    return f"demo-{tier}-{_RUN}"


def _made(response: httpx2.Response) -> MadeKey:
    made = response.json()
    return MadeKey(made["id"], made["key"])
