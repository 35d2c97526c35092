"""What a gate knows of its callers without a request: for the commands of operators, which have only a name or a key.

A name is a subject or an account. The callers of an identifier of the app's own are known by their keys alone, unless
it is one that `NamesCallers`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Optional

from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.errors import AccountNotFound
from awx_ratelimit.http.client_address import ADDRESS_PREFIX
from awx_ratelimit.http.explaining import GateParts
from awx_ratelimit.http.identity.client_address import ClientAddress
from awx_ratelimit.http.identity.static_keys import StaticKeys
from awx_ratelimit.http.identity.stored_keys import StoredKeys

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
    fails that has to find the plan.
    """
    identify, anonymous = parts.identify, parts.anonymous
    if isinstance(identify, ClientAddress):
        return Caller(subject, identify.plan)
    if isinstance(identify, NamesCallers):
        return None if has_plan else _named_by(parts, identify, subject)
    if found := _stored_caller(parts, subject, account):
        return found
    for caller in _static_callers(parts):
        if caller.subject == subject and account in (None, caller.account):
            return caller
    if anonymous is not None and subject.startswith(ADDRESS_PREFIX):
        return Caller(subject, anonymous)
    of_account = None if account is None else known_account(parts, account)
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
            f"the app cannot find the plan of {subject!r}: {said}; name the plan with --plan, or mend that error"
        ) from error
    return found


def known_account(parts: GateParts, account: str) -> Caller | None:
    """The account itself, with the plan and the overrides that its keys have; None if the gate does not know it."""
    if keys := key_service_of(parts):
        with suppress(AccountNotFound):
            found = keys.accounts.get(account)
            return Caller(account, found.plan, account, found.current_overrides)
    plans = (caller.plan for caller in _static_callers(parts) if caller.account == account)
    return next((Caller(account, plan, account) for plan in plans), None)


def known_plans(parts: GateParts) -> Mapping[str, Plan]:
    """The plans of the gate by name: those of its table, and those that only the code of the app names."""
    identify, anonymous = parts.identify, parts.anonymous
    named = [caller.plan for caller in _static_callers(parts)]
    named += [identify.plan] if isinstance(identify, ClientAddress) else []
    in_code = [plan for plan in (anonymous, *named) if isinstance(plan, Plan)]
    # Of two plans with one name, that of the table is meant.
    return {plan.name: plan for plan in (*in_code, *parts.plans.plans)}


def key_service_of(parts: GateParts) -> Optional["KeyService"]:
    """A service of the key store that StoredKeys looks keys up in; None for any other identifier."""
    store = _key_store_of(parts)
    if store is None:
        return None
    from awx_ratelimit.keys import KeyService

    return KeyService(store)


def _key_store_of(parts: GateParts) -> Optional["KeyStore"]:
    if not isinstance(parts.identify, StoredKeys):
        return None
    # A verifier of the app's own kind may have another store, or none.
    store = getattr(parts.identify.verifier, "store", None)
    if store is None:
        return None
    from awx_ratelimit.keys import KeyStore

    return store if isinstance(store, KeyStore) else None


def _stored_caller(parts: GateParts, subject: str, account: str | None) -> Caller | None:
    keys = key_service_of(parts)
    if keys is None:
        return None
    # An app may have callers besides those of its keys.
    with suppress(AccountNotFound):
        return keys.operator.caller_of(subject, account)
    return None


def _static_callers(parts: GateParts) -> tuple[Caller, ...]:
    return parts.identify.callers if isinstance(parts.identify, StaticKeys) else ()
