"""Overrides as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from awx_ratelimit.console.operator.override_text import line_of, overrides_from, text_of
from awx_ratelimit.errors import InvalidKeyRequest
from awx_ratelimit.keys.scanner import FINDER

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = st.one_of(st.booleans(), st.integers(-(2**53), 2**53), st.floats(0.001, 1_000), TEXTS)
TABLES = st.dictionaries(TEXTS, st.one_of(SCALARS, st.lists(SCALARS, max_size=3)), max_size=3)
LIMITS = st.dictionaries(TEXTS.filter(lambda key: key != "account"), st.one_of(SCALARS, TABLES, st.lists(TABLES)))


@given(LIMITS, st.one_of(st.none(), TABLES.filter(bool)))
def test_text(limits: dict[str, object], shared: dict[str, object] | None) -> None:
    """What is written can be read again, whatever its names and values."""
    overrides = limits if shared is None else {**limits, "account": shared}

    assert overrides_from(text_of(overrides), "limits", FINDER) == overrides


def test_line() -> None:
    """One line says the same."""
    overrides = {"per_minute": 1_200, "account": {"per_month": {"limit": 5, "timezone": "Europe/Berlin"}}}

    assert line_of(overrides) == ('per_minute = 1_200, account.per_month = { limit = 5, timezone = "Europe/Berlin" }')


@pytest.mark.parametrize("text", ["a", "a = [" * 500, "a = {" * 5_000, "[[a]]\n" * 9_000, "a = 1\na = 2", "\x00"])
def test_mistakes(text: str) -> None:
    """Whatever is written, a mistake is one error at the field."""
    with pytest.raises(InvalidKeyRequest) as caught:
        overrides_from(text, "limits", FINDER)

    assert caught.value.field == "limits"
