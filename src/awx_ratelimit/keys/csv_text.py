"""CSV (RFC 4180), for people with a spreadsheet.

A spreadsheet takes a cell that begins with ``=``, ``+``, ``-`` or ``@`` for a formula, and a customer chooses the names
of keys. So such cells get an apostrophe, which makes them text (OWASP, CSV injection).
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

#: Some spreadsheets take the wide forms for the same.
_FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a line with the `columns`, and a line for each row."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def csv_of_fields(columns: Sequence[str], objects: Iterable[Mapping[str, Any]]) -> str:
    """Return a line for each JSON object, which has all `columns`. null is empty, and objects are JSON."""
    return csv_text(columns, ([_flat(one[column]) for column in columns] for one in objects))


def _flat(value: object) -> object:
    if isinstance(value, str | int) and not isinstance(value, bool):
        return value
    return "" if value is None else json.dumps(value)


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULAS) else value
