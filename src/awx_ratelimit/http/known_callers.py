"""What a gate knows of its callers without a request: for the commands of operators, which have only a name or a key.

A name is a subject or an account. The callers of an identifier of the app's own are known by their keys alone, unless
it is one that `NamesCallers`.
"""

import getpass
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from shlex import quote
from typing import TYPE_CHECKING, Optional

from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.errors import AccountNotFound, InvalidKeyRequest, KeyNotFound
from awx_ratelimit.http.client_address import ADDRESS_PREFIX
from awx_ratelimit.http.explaining import GateParts
from awx_ratelimit.http.identity.client_address import ClientAddress
from awx_ratelimit.http.identity.static_keys import StaticKeys
from awx_ratelimit.http.identity.stored_keys import StoredKeys
from awx_ratelimit.keys.format import PREFIX, KeyFormat, is_key_id
from awx_ratelimit.keys.validation import refuse_key
from awx_ratelimit.runtime.clock import rfc3339

if TYPE_CHECKING:
    from awx_ratelimit.keys import KeyService, KeyStore


class NamesCallers(ABC):
    """An identifier that finds the plan of a caller by its subject, such as DjangoUser."""

    @abstractmethod
    def caller_named(self, subject: str) -> Caller | None:
        """The caller with this subject; None if there is none. It may block, and raise anything."""


def known_caller(
    parts: GateParts, subject: str, account: str | None = None, *, has_plan: bool = False
) -> Caller | None:
    """The caller `subject`, of `account` if one is given; None if the gate does not know it.

    It is one of the key store, one of StaticKeys, or a client by its address. Any other subject of `account` has the
    plan of that account. `has_plan`: another plan replaces that of the caller. Raises ValueError if code of the app
    fails that has to find the plan, InvalidKeyRequest for a key of StaticKeys, and what `stored_caller` raises.
    """
    identify, anonymous = parts.identify, parts.anonymous
    if isinstance(identify, StaticKeys) and identify.caller_of(subject.encode("utf-8", "surrogatepass")) is not None:
        remedy = "write the subject of its caller, which awx-ratelimit usage - prints"
        raise InvalidKeyRequest("is an API key of the app", remedy=remedy, field="subject")
    if isinstance(identify, ClientAddress):
        return Caller(subject, identify.plan)
    if isinstance(identify, NamesCallers):
        return None if has_plan else _named_by(parts, identify, subject)
    # With a plan, the account need not exist.
    with suppress(AccountNotFound) if has_plan else nullcontext():
        if (keys := key_service_of(parts)) and (found := stored_caller(keys, subject, account, has_plan=has_plan)):
            return found
    for caller in _static_callers(parts):
        if caller.subject == subject and account in (None, caller.account):
            return caller
    if anonymous is not None and subject.startswith(ADDRESS_PREFIX):
        return Caller(subject, anonymous)
    of_account = None if account is None else _static_account(parts, account)
    return None if of_account is None else Caller(subject, of_account.plan, account)


def _named_by(parts: GateParts, identify: NamesCallers, subject: str) -> Caller | None:
    try:
        found = identify.caller_named(subject)
        if found is not None:
            # A function of the app may return anything.
            parts.plans.resolve(found)
    except (Exception, SystemExit) as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(
            f"the app cannot find the plan of {subject!r}: {said}; name the plan with --plan, or fix that error"
        ) from error
    return found


def known_account(parts: GateParts, account: str) -> Caller | None:
    """The account itself, with the plan and the overrides that its keys have; None if only code of the app may know it.

    Raises AccountNotFound for one that the key store, or StaticKeys, does not have.
    """
    if keys := key_service_of(parts):
        return stored_account(keys, account)
    found = _static_account(parts, account)
    if found is None and type(parts.identify) is StaticKeys:
        remedy = "name the account of a Caller in its keys"
        raise AccountNotFound(f"no key of the app has the account {account!r}", remedy=remedy, field="account")
    return found


def knows(parts: GateParts, name: str) -> bool:
    """Whether the key store or StaticKeys has a caller or an account `name`. Others may still exist."""
    keys = key_service_of(parts)
    if keys is not None and is_stored(keys, name):
        return True
    return any(name in (caller.subject, caller.account) for caller in _static_callers(parts))


def is_stored(keys: "KeyService", name: str) -> bool:
    """Whether the key store has a key or an account `name`."""
    if keys.operator.caller_of(name) is not None:
        return True
    with suppress(AccountNotFound, InvalidKeyRequest):
        keys.accounts.get(name)
        return True
    return False


def stored_caller(
    keys: "KeyService", subject: str, account: str | None = None, *, has_plan: bool = False
) -> Caller | None:
    """The caller `subject`, of `account` if one is given; None for a subject that is no key, without an account.

    Raises InvalidKeyRequest for the text of a key, AccountNotFound, and KeyNotFound for the ID of a key that the store
    or the account does not have. With
    `has_plan`, an ID that the store does not have is a subject of the app.
    """
    refuse_key(subject, "subject", keys.finder, remedy="write the subject of its caller")
    whole_account = None if account is None else stored_account(keys, account)
    found = keys.operator.caller_of(subject)
    if found is None:
        if is_key_id(subject) and not has_plan:
            raise no_such_key(subject)
        return None if whole_account is None else replace(whole_account, subject=subject)
    if account not in (None, found.account):
        raise missing_key(keys, subject, account or "")
    return found


def stored_account(keys: "KeyService", account: str) -> Caller:
    """The account itself. Raises AccountNotFound."""
    try:
        found = keys.accounts.get(account)
    except AccountNotFound as error:
        raise no_such_account(account) from error
    return Caller(account, found.plan, account, found.current_overrides)


def no_such_account(account: str) -> AccountNotFound:
    """The error for an account that the key store does not have."""
    remedy = "list the accounts with: awx-ratelimit accounts list"
    return AccountNotFound(f"there is no account {account!r}", remedy=remedy, field="account")


def missing_key(keys: "KeyService", key_id: str, account: str) -> KeyNotFound:
    """The error for a key that `account` does not have, or that is revoked. It says what is known of the key."""
    said = f"the account {account!r} has no key {key_id!r}"
    with suppress(InvalidKeyRequest):
        for one in keys.operator.keys.shown_as(key_id):
            if one.key.account_id == account and one.revoked_at is not None:
                said = f"the key {one.key.id} of {account!r} was revoked at {rfc3339(one.revoked_at)}"
    return KeyNotFound(said, remedy=f"list the keys with: awx-ratelimit keys list --account {quote(account)}")


def no_such_key(key_id: str) -> KeyNotFound:
    """The error for the ID of a key that the key store does not have."""
    remedy = "look it up with: awx-ratelimit keys find awx_...x4f2"
    return KeyNotFound(f"no key of this store has the ID {key_id!r}", remedy=remedy)


def identifies_in_code(parts: GateParts) -> bool:
    """Whether only code of the app knows its callers, so that their plans and overrides need a request with a key."""
    identify = parts.identify
    return not isinstance(identify, NamesCallers) and type(identify) not in (StaticKeys, StoredKeys, ClientAddress)


def known_plans(parts: GateParts) -> Mapping[str, Plan]:
    """The plans of the gate by name: those of its table, and those that only the code of the app names."""
    identify, anonymous = parts.identify, parts.anonymous
    named = [caller.plan for caller in _static_callers(parts)]
    named += [identify.plan] if isinstance(identify, ClientAddress) else []
    in_code = [plan for plan in (anonymous, *named) if isinstance(plan, Plan)]
    # Of two plans with one name, that of the table is meant.
    return {plan.name: plan for plan in (*in_code, *parts.plans.plans)}


def key_service_of(parts: GateParts) -> Optional["KeyService"]:
    """A service of the key store that StoredKeys looks keys up in; None for any other identifier.

    It has no pepper, so it finds no key by its text.
    """
    store = _key_store_of(parts)
    if store is None:
        return None
    from awx_ratelimit.keys import KeyService

    return KeyService(store, keys=KeyFormat(getattr(parts.identify.verifier, "prefix", PREFIX)))


def actor_name(actor: str | None = None) -> str:
    """The operator at the command line, for the audit trail: `actor`, or the user of the operating system."""
    if actor is not None:
        return actor
    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError):
        return "cli"


def _key_store_of(parts: GateParts) -> Optional["KeyStore"]:
    if not isinstance(parts.identify, StoredKeys):
        return None
    # A verifier of the app's own kind may have another store, or none.
    store = getattr(parts.identify.verifier, "store", None)
    if store is None:
        return None
    from awx_ratelimit.keys import KeyStore

    return store if isinstance(store, KeyStore) else None


def _static_account(parts: GateParts, account: str) -> Caller | None:
    plans = (caller.plan for caller in _static_callers(parts) if caller.account == account)
    return next((Caller(account, plan, account) for plan in plans), None)


def _static_callers(parts: GateParts) -> tuple[Caller, ...]:
    return parts.identify.callers if isinstance(parts.identify, StaticKeys) else ()
