"""How every library decides: the limits of one caller, and of two keys of an account, on a clock that stands still."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.comparison import accounts
from tests.comparison.accounts import Shared
from tests.comparison.libraries import Library
from tests.comparison.shown import NO, PARTLY, YES, Shown, experiment
from tests.comparison.subject import Subject

_MINUTE, _HOUR = 60, 3_600
_OK = 200


@experiment
def all_or_none(library: Library) -> Shown:
    """Four minutes with four requests each, on limits of 2 a minute and 8 an hour, in both orders."""
    admitted = []
    for limits in (((2, _MINUTE), (8, _HOUR)), ((8, _HOUR), (2, _MINUTE))):
        with library.build(*limits) as subject:
            admitted.append(sum(_hits(subject, 4, wait_s=61) for _ in range(4)))
    short_first, long_first = admitted
    if short_first == long_first:
        verdict = YES if short_first == 8 else NO
        return Shown(verdict, f"admits {short_first} of the 8 that the hour allows")
    return Shown(PARTLY, f"admits 8 or {min(admitted)} of the 8 that the hour allows, by the order of the limits")


def _hits(subject: Subject, count: int, wait_s: float = 0) -> int:
    admitted = sum(subject.hit() for _ in range(count))
    subject.wait(wait_s)
    return admitted


@experiment
def one_account(library: Library) -> Shown:
    """Requests that the account's limit refuses, and requests that the key's limit refuses, in both orders."""
    if library.account is None:
        return Shown(NO, "a request has one caller")
    used_up = set()
    for is_key_first in (True, False):
        if not _mine_is_left(library.account, is_key_first=is_key_first):
            used_up.add("the key's limit")
        if not _account_is_left(library.account, is_key_first=is_key_first):
            used_up.add("the account's limit")
    if used_up:
        return Shown(NO, f"a refused request uses up {' or '.join(sorted(used_up))}, by the order of the limits")
    return Shown(YES, "a refused request uses up neither limit")


def _mine_is_left(account: accounts.Build, *, is_key_first: bool) -> bool:
    """Whether requests that the account's limit refuses leave a key its own."""
    limits = [Shared((4, _HOUR), is_of_account=False), Shared((3, _MINUTE), is_of_account=True)]
    with account(limits if is_key_first else limits[::-1]) as (ask, clock):
        assert [ask("theirs") for _ in range(3)] == [True] * 3
        assert [ask("mine") for _ in range(4)] == [False] * 4
        clock.advance(61_000)
        return ask("mine")


def _account_is_left(account: accounts.Build, *, is_key_first: bool) -> bool:
    """Whether requests that a key's limit refuses leave the account its own."""
    limits = [Shared((2, _HOUR), is_of_account=False), Shared((10, _MINUTE), is_of_account=True)]
    with account(limits if is_key_first else limits[::-1]) as (ask, _):
        assert [ask("mine") for _ in range(12)] == [True] * 2 + [False] * 10
        return ask("theirs")


@experiment
def refused_costs(library: Library) -> Shown:
    """Requests that cost 8, 8 and 2, on a limit of 10 a minute."""
    if not library.has_costs:
        return Shown(NO, "every request costs 1")
    with library.build((10, _MINUTE)) as subject:
        shown = ["admitted" if subject.hit(cost) else "refused" for cost in (8, 8, 2)]
    return Shown(YES if shown[-1] == "admitted" else NO, ", ".join(shown))


@experiment
def retry_after(library: Library) -> Shown:
    """A request, then as many as are admitted 20.5 seconds later, and a refused one, on a limit of 5 a minute."""
    with _refused(library) as (subject, told):
        waited = 0.0
        while waited < 2 * _MINUTE and not subject.hit():
            subject.wait(0.5)
            waited += 0.5
    if told is None:
        return Shown(NO, f"says nothing; admits after {waited:g} s")
    is_exact = _is_admitted_after(library, told) and not _is_admitted_after(library, told - 1)
    return Shown(YES if is_exact else NO, f"says {told:g} s; admits after {waited:g} s")


@contextmanager
def _refused(library: Library) -> Iterator[tuple[Subject, float | None]]:
    with library.build((5, _MINUTE)) as subject:
        subject.hit()
        subject.wait(20.5)
        refused = subject.ask(1)
        while refused.status == _OK:
            refused = subject.ask(1)
        told = refused.headers.get("retry-after")
        yield subject, None if told is None else float(told)


def _is_admitted_after(library: Library, wait_s: float) -> bool:
    with _refused(library) as (subject, _):
        subject.wait(wait_s)
        return subject.hit()


@experiment
def sliding(library: Library) -> Shown:
    """The most requests in any 60 seconds, on a limit of 5 a minute: around the end of a window, and after a burst."""
    most = max(
        _most_in_a_minute(library, [0, *[59] * 4, *[61] * 5]), _most_in_a_minute(library, [*[0] * 5, *range(130)])
    )
    return Shown(YES if most <= 5 else NO, f"{most} in 60 s")


def _most_in_a_minute(library: Library, moments_s: list[int]) -> int:
    admitted = []
    with library.build((5, _MINUTE)) as subject:
        now_s = 0
        for moment_s in moments_s:
            subject.wait(moment_s - now_s)
            now_s = moment_s
            if subject.hit():
                admitted.append(now_s)
    return max(sum(start <= each < start + _MINUTE for each in admitted) for start in admitted)


@experiment
def headers(library: Library) -> Shown:
    """The headers of an admitted and of a refused request that speak of limits."""
    with library.build((5, _MINUTE)) as subject:
        admitted = _limit_headers(subject)
        _hits(subject, 4)
        refused = _limit_headers(subject) - admitted
    if not admitted | refused:
        return Shown(NO, "none")
    shown = ", ".join(f"`{name}`" for name in sorted(admitted)) or "none"
    more = f"; refused also {', '.join(f'`{name}`' for name in sorted(refused))}" if refused else ""
    return Shown(YES if "ratelimit-policy" in admitted else PARTLY, shown + more)


def _limit_headers(subject: Subject) -> set[str]:
    return {name for name in subject.ask(1).headers if "ratelimit" in name or name == "retry-after"}
