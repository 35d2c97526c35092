"""`QuotaWarning`: one warning, as callbacks get it and as webhooks send it. `WarnedQuotas`: which were warned of."""

import json
import secrets
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final, NamedTuple

from awx_ratelimit.keys.models import utc_datetime
from awx_ratelimit.observability.quota_crossings import QuotaUse
from awx_ratelimit.runtime.clock import rfc3339

TYPE: Final = "quota.warning"
_MAX_QUOTAS: Final = 50_000


class Owner(NamedTuple):
    """The account and the key of a subject; None if there is none, or if they share the limit."""

    account_id: str | None
    key_id: str | None


class DueWarning(NamedTuple):
    """A warning that this process is to deliver now through `channel`, for the `attempts`-th time."""

    id: str
    channel: str
    body: str
    created_at_ms: int
    attempts: int


@dataclass(frozen=True, slots=True)
class QuotaWarning:
    """A subject has used `percent`, 80 or 100, of a quota: `used` of `capacity`, counted in `measure`.

    `limit` is the name of the limit with its scope, such as ``account.month``, and `subject` whose limit it is.
    `account_id` and `key_id` identify a stored key; `key_id` is None if all keys of the account share the limit.
    The quota is full again at `resets_at`, if nothing more is used. `id` is the same in each delivery.
    """

    id: str
    at: datetime
    account_id: str | None
    key_id: str | None
    subject: str
    limit: str
    measure: str
    percent: int
    used: int
    capacity: int
    resets_at: datetime

    @classmethod
    def of(cls, use: QuotaUse, owner: Owner) -> "QuotaWarning":
        """Return a new warning about `use`."""
        at, resets_at = utc_datetime(use.at_ms), utc_datetime(use.resets_at_ms)
        return cls(
            f"wrn_{secrets.token_hex(12)}", at, owner.account_id, owner.key_id, use.subject, use.limit, use.measure,
            use.percent, use.used, use.capacity, resets_at,
        )  # fmt: skip

    @classmethod
    def from_json(cls, text: str) -> "QuotaWarning":
        """Return the warning in a body that `to_json` has made."""
        document = json.loads(text)
        fields = document["data"] | {"id": document["id"], "at": document["timestamp"]}
        times = {name: datetime.fromisoformat(fields[name]) for name in ("at", "resets_at")}
        return cls(**{**fields, **times})

    def to_json(self) -> str:
        """Return the body of the webhook."""
        fields = asdict(self)
        del fields["id"], fields["at"]
        data = {**fields, "resets_at": rfc3339(self.resets_at)}
        document = {"id": self.id, "type": TYPE, "timestamp": rfc3339(self.at), "data": data}
        return json.dumps(document, separators=(",", ":"))


class WarnedQuotas:
    """Which quotas this process has seen warned of, and until when. It forgets the oldest beyond 50,000."""

    def __init__(self) -> None:
        self._warned: dict[tuple[str, str], QuotaUse] = {}

    def lacks(self, use: QuotaUse) -> bool:
        """Whether `use` may need a warning: of a new period, of a higher share, or of a larger quota."""
        last = self._warned.get((use.subject, use.limit))
        return last is None or last.until_ms <= use.at_ms or last.percent < use.percent or last.capacity < use.capacity

    def add(self, use: QuotaUse) -> None:
        """`use` needs no other warning."""
        self._warned.pop((use.subject, use.limit), None)
        while len(self._warned) >= _MAX_QUOTAS:
            del self._warned[next(iter(self._warned))]
        self._warned[use.subject, use.limit] = use
