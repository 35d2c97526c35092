"""Notes on quotas that are nearly or fully used, of the account and of its keys. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from awx_ratelimit.console import limit_words
from awx_ratelimit.core.quota import is_quota, used_percent, warning_percent
from awx_ratelimit.keys.models import ApiKey
from awx_ratelimit.management.usage import KeyUsage, LimitUsage

#: Notes about single keys on one page. The others are counted.
_MAX_KEYS: Final = 3
_FULL: Final = 100


@dataclass(frozen=True, slots=True)
class QuotaNote:
    """A sentence about a quota of `key`, or of the account if it is None. `text` is what follows their name.

    `percent` of the quota are used, at least 80.
    """

    key: ApiKey | None
    percent: int
    text: str

    @property
    def is_used_up(self) -> bool:
        """Whether nothing is left."""
        return self.percent >= _FULL


@dataclass(frozen=True, slots=True)
class QuotaNotes:
    """The notes of a page, the fullest keys first, and the number of keys that are left out."""

    notes: tuple[QuotaNote, ...]
    more_keys: int


def quota_notes(shared: Sequence[LimitUsage], keys: Iterable[KeyUsage]) -> QuotaNotes:
    """Describe the quotas of which at least 80 % are used. A key has one note, for its fullest quota.

    `shared` is the usage of what all keys share. Expired keys have no note, and keys that share a quota have one.
    """
    families: dict[str, KeyUsage] = {}
    for usage in keys:
        if usage.key.status != "expired":
            families.setdefault(usage.key.family_id, usage)
    notes = [_fullest(usage.key, usage.limits) for usage in families.values()]
    fullest_first = sorted((note for note in notes if note), key=lambda note: -note.percent)
    account = tuple(note for limit in shared if (note := _note(None, limit)))
    return QuotaNotes((*account, *fullest_first[:_MAX_KEYS]), max(0, len(fullest_first) - _MAX_KEYS))


def _fullest(key: ApiKey, limits: Iterable[LimitUsage]) -> QuotaNote | None:
    notes = [note for limit in limits if (note := _note(key, limit))]
    return max(notes, key=lambda note: note.percent, default=None)


def _note(key: ApiKey | None, limit: LimitUsage) -> QuotaNote | None:
    if limit.rate is None or not is_quota(limit.rate) or warning_percent(limit.usage) is None:
        return None
    percent = used_percent(limit.usage)
    reset = limit_words.reset_aside(limit)
    text = f"has used {percent} % of its {limit_words.quota(limit.rate)}{reset}."
    until = "then" if reset else "some of it refills"
    return QuotaNote(key, percent, f"{text} Requests are refused until {until}." if percent >= _FULL else text)
