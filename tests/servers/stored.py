"""Keys in a store, as both apps verify and manage them and as tests make them: the file lies where the two meet."""

import time
from itertools import count
from pathlib import Path
from typing import Any

import jwt
from tests.servers.limits import PLANS, folder

from awx_ratelimit import AsyncLimiter, Limiter, Plan, StoredKeys
from awx_ratelimit.keys import KeyService, KeyStore, KeyVerifier
from awx_ratelimit.management import AccessTokens, ManagementApi, OperatorApi, OperatorTokens

ACCOUNT = "acme"
SECRET = "a secret of the tests that is long enough for HS256"
ISSUER = "https://login.example.com"
AUDIENCE = "wallet-api"
OPERATORS = "wallet-operators"
#: How many calls an account may make in a minute: more than any test does.
MANY = Plan.of("many", per_minute=100_000)


class KeyMaker:
    """Makes keys of one account on the plan burst, in the store of a folder. Close it in the end."""

    def __init__(self, folder: Path) -> None:
        self._store = KeyStore.open(folder / "keys.db")
        self.service = KeyService(self._store)
        self.service.accounts.create(ACCOUNT, plan="burst", max_keys=100_000)
        self._accounts = count()

    def __call__(self) -> str:
        """A key that no other test has used."""
        return self.service.create(ACCOUNT, "n").secret.reveal()

    def account(self) -> str:
        """An account on the plan burst that no other test has used."""
        account = f"account-{next(self._accounts)}"
        self.service.accounts.create(account, plan="burst", max_keys=100_000)
        return account

    def close(self) -> None:
        """Let go of the file."""
        self._store.close()


def token_for(account: str, **more: Any) -> str:
    """A token by which the keys of an account may be managed."""
    now_s = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": account, "exp": now_s + 900, **more}
    return jwt.encode(claims, SECRET, algorithm="HS256")


def operator_token() -> str:
    """A token of an operator."""
    return token_for("ada", aud=OPERATORS, scope="awx:operator")


def stored_keys(store: KeyStore) -> StoredKeys:
    """Identifies keys of the store, in a server's process."""
    return StoredKeys(KeyVerifier(store))


def store() -> KeyStore:
    """The store, in a server's process."""
    return KeyStore.open(folder() / "keys.db")


def management(store: KeyStore, limiter: Limiter | AsyncLimiter) -> ManagementApi:
    """The REST API of the store's keys."""
    tokens = AccessTokens(SECRET, algorithms=["HS256"], issuer=ISSUER, audience=AUDIENCE)
    return ManagementApi(
        KeyService(store),
        tokens,
        limiter=limiter,
        plans=PLANS,
        new_account_plan="burst",
        creations=MANY,
        calls=MANY,
    )


def operator(store: KeyStore, limiter: Limiter | AsyncLimiter) -> OperatorApi:
    """The operator's API of the store's accounts."""
    tokens = OperatorTokens(SECRET, algorithms=["HS256"], issuer=ISSUER, audience=OPERATORS)
    return OperatorApi(KeyService(store), tokens, limiter=limiter, plans=PLANS, calls=MANY)
