"""API keys: creation, verification, rotation and revocation. This package knows nothing of HTTP or of limits.

    store = KeyStore.open("keys.db")                      # or postgresql://user@host/database
    keys = KeyService(store)
    keys.accounts.create("acct_acme", plan="starter")
    created = keys.create("acct_acme", "production-backend")
    created.secret.reveal()                               # shown only here

    verifier = KeyVerifier(store)
    caller = verifier.verify(b"awx_...", "203.0.113.7")   # a Caller for the gate, or KeyRefused

An account has the name of a plan, which this package does not interpret. The store, the service and the verifier need
the extra ``keys``. The format of keys, the scanner and the redaction need nothing.
"""

from typing import TYPE_CHECKING

from awx_ratelimit.keys.format import KeyFormat, Secret
from awx_ratelimit.keys.models import Account, ApiKey, CreatedKey, Event, Page, TemporaryOverride
from awx_ratelimit.keys.scanner import FoundKey, KeyFinder, KeyRedactingFilter, redact_event
from awx_ratelimit.runtime.extras import lazy_exports

if TYPE_CHECKING:
    from awx_ratelimit.keys.accounts import Accounts
    from awx_ratelimit.keys.service import KeyService
    from awx_ratelimit.keys.storage.store import KeyStore
    from awx_ratelimit.keys.usage_export import UsageExport
    from awx_ratelimit.keys.usage_history import UsageHistory
    from awx_ratelimit.keys.verification.verifier import KeyVerifier
    from awx_ratelimit.keys.warnings.listener import QuotaWarnings
    from awx_ratelimit.keys.warnings.warning import QuotaWarning

__all__ = [
    "Account",
    "Accounts",
    "ApiKey",
    "CreatedKey",
    "Event",
    "FoundKey",
    "KeyFinder",
    "KeyFormat",
    "KeyRedactingFilter",
    "KeyService",
    "KeyStore",
    "KeyVerifier",
    "Page",
    "QuotaWarning",
    "QuotaWarnings",
    "Secret",
    "TemporaryOverride",
    "UsageExport",
    "UsageHistory",
    "redact_event",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "Accounts": f"{__name__}.accounts",
        "KeyService": f"{__name__}.service",
        "KeyStore": f"{__name__}.storage.store",
        "KeyVerifier": f"{__name__}.verification.verifier",
        "QuotaWarning": f"{__name__}.warnings.warning",
        "QuotaWarnings": f"{__name__}.warnings.listener",
        "UsageExport": f"{__name__}.usage_export",
        "UsageHistory": f"{__name__}.usage_history",
    },
    extra="keys",
    packages={"sqlalchemy": "SQLAlchemy"},
)
