"""Moments as options take them: a date, a time, or how far it is from now. All are in UTC."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import typer

_FORMATS: Final = ("%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ")
_UNITS: Final = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes"}
_from_now = re.compile(r"(?P<sign>[+-])(?P<number>[0-9]{1,6})(?P<unit>[wdhm])").fullmatch


def moment(text: str) -> datetime:
    """The moment that `text` means. Raises BadParameter, which names all forms."""
    for each in _FORMATS:
        try:
            return datetime.strptime(text, each).replace(tzinfo=UTC)
        except ValueError:
            continue
    try:
        return _moment_from_now(text)
    except (OverflowError, ValueError):
        raise typer.BadParameter(
            f"expected a date such as 2030-06-09, a time such as 2030-06-09T08:00:00Z, or a time from now such as +2h, "
            f"+1d or -7d (w, d, h, m), got {text!r}"
        ) from None


def _moment_from_now(text: str) -> datetime:
    match = _from_now(text)
    if match is None:
        raise ValueError
    distance = timedelta(**{_UNITS[match["unit"]]: int(match["number"])})
    now = datetime.now(UTC)
    return now + distance if match["sign"] == "+" else now - distance


def _option(name: str, text: str) -> object:
    return typer.Option(name, parser=moment, metavar="TIME", help=text)


_FORMS: Final = "a date, a time such as 2030-06-09T08:00:00Z, or"
From = Annotated[datetime | None, _option("--from", f"Start of the range, in UTC: {_FORMS} -7d for 7 days ago.")]
To = Annotated[
    datetime | None, _option("--to", "End of the range, in the same forms: the first day or hour after the range.")
]
Since = Annotated[
    datetime, _option("--since", f"First hour to export, in UTC: the one that the last export printed, {_FORMS} -2h.")
]
Until = Annotated[datetime, _option("--until", f"When the limits end, in UTC: {_FORMS} +2h or +1d from now.")]
