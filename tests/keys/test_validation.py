import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from awx_ratelimit.errors import InvalidKeyRequest, KeyRequestRefused
from awx_ratelimit.keys import KeyFormat
from awx_ratelimit.keys.validation import account_id, readable_text


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("production-backend", "production-backend"),
        ("  staging ci\t\n", "staging ci"),
        ("cafe\u0301", "caf\u00e9"),
        ("\u1112\u1161\u11ab" * 64, "\ud55c" * 64),
        ("\u540d\u524d \U0001f511", "\u540d\u524d \U0001f511"),
        ("\u05e9\u05dc\u05d5\u05dd", "\u05e9\u05dc\u05d5\u05dd"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("x", "x"),
        ("x" * 64, "x" * 64),
    ],
)
def test_names_are_kept_composed_and_trimmed(written: str, kept: str) -> None:
    """A name is kept in Unicode's composed form, without the white space around it, in any script."""
    assert readable_text(written) == kept


@pytest.mark.parametrize(
    "name", ["", "   ", "\u3000", "x" * 65, "x" * 10_000_000, "\u0301" * 65, "\u0301\u0323" * 200_000]
)
def test_a_name_has_1_to_64_characters(name: str) -> None:
    """Empty and long names are refused, with what is allowed."""
    with pytest.raises(InvalidKeyRequest, match=r"^name: has \d+ characters; expected 1 to 64 characters"):
        readable_text(name)


@pytest.mark.parametrize("name", [None, 7, b"name", ["name"]])
def test_a_name_is_a_text(name: object) -> None:
    """Anything else is refused."""
    with pytest.raises(InvalidKeyRequest, match="expected 1 to 64 characters"):
        readable_text(name)


UNSEEN = [
    *(0x00, 0x07, 0x1B, 0x7F, 0x85, 0xAD, 0x34F, 0x61C, 0x115F, 0x180B, 0x180E, 0x200B, 0x200D, 0x200E, 0x202A, 0x202E),
    *(0x2028, 0x2029, 0x2060, 0x2066, 0x2069, 0x206F, 0x2800, 0x3164, 0xD800, 0xDFFF, 0xE000, 0xFE0F, 0xFEFF, 0xFFA0),
    *(0xFFF9, 0x1D173, 0xE0001, 0xE0041, 0xE0100),
]


@pytest.mark.parametrize("character", UNSEEN, ids="U+{:04X}".format)
def test_what_cannot_be_seen_is_refused(character: int) -> None:
    """Control, bidi and other invisible characters and surrogates are refused, and named."""
    with pytest.raises(InvalidKeyRequest, match=rf"contains the invisible character U\+{character:04X}; remove it"):
        readable_text(f"prod{chr(character)}uction")


@given(st.text(st.characters(codec=None), max_size=70))
def test_whatever_is_written_is_kept_readable_or_refused(text: str) -> None:
    """What is kept can be stored, shown and typed: it is UTF-8, in composed form, trimmed, and kept as it is again."""
    try:
        kept = readable_text(text)
    except InvalidKeyRequest:
        return

    assert b"\0" not in kept.encode()
    assert unicodedata.is_normalized("NFC", kept) is True
    assert kept.strip() == kept
    assert readable_text(kept) == kept


@pytest.mark.parametrize("cut", [42, 41, 36, 24])
@pytest.mark.parametrize("around", ["{}", "prod {} old", "x{}"])
def test_a_name_with_a_key_in_it_is_refused(around: str, cut: int) -> None:
    """Whoever pastes a key into the name, or most of one, is told so, and it is not in the error."""
    key = KeyFormat().new().reveal()[:cut]
    with pytest.raises(InvalidKeyRequest, match="contains an API key; remove it, and rotate that key") as caught:
        readable_text(around.format(key))

    assert key not in repr(caught.value) + str(caught.value)


def test_an_error_has_parts_for_machines() -> None:
    """A refused request says its code, its field and its remedy one by one."""
    with pytest.raises(KeyRequestRefused) as caught:
        readable_text("", field="title")

    error = caught.value
    assert error.code == "invalid_request"
    assert error.field == "title"
    assert error.what == "has 0 characters"
    assert isinstance(error, ValueError)
    assert str(error) == f"title: {error.what}; {error.remedy}"


@pytest.mark.parametrize(
    "id", ["acct_1", "auth0|123", "a@b.example", "550e8400-e29b-41d4-a716-446655440000", "x" * 128]
)
def test_ids_of_accounts_are_kept_as_they_are(id: str) -> None:
    """An account's id is whatever its application calls it."""
    assert account_id(id) == id


@pytest.mark.parametrize("id", ["", "x" * 129, "a b", "a\n", "\u00e4", "a\0", None, 7])
def test_ids_that_are_refused(id: str) -> None:
    """An id that cannot be seen, or is none, is refused."""
    with pytest.raises(
        InvalidKeyRequest, match=r"^account_id: not a valid id; expected 1 to 128 visible ASCII characters"
    ):
        account_id(id)


def test_an_id_is_no_key() -> None:
    """A key in the place of an id is refused, so that it is written nowhere."""
    with pytest.raises(InvalidKeyRequest, match="contains an API key"):
        account_id(KeyFormat().new().reveal())
