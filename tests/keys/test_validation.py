"""Names, ids and the errors about them."""

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
def test_normalized_name(written: str, kept: str) -> None:
    """A name is stored in Unicode's composed form and without surrounding white space, in any script."""
    assert readable_text(written) == kept


@pytest.mark.parametrize(
    "name", ["", "   ", "\u3000", "x" * 65, "x" * 10_000_000, "\u0301" * 65, "\u0301\u0323" * 200_000]
)
def test_length_of_a_name(name: str) -> None:
    """Empty and long names are refused; the error says what is allowed."""
    with pytest.raises(InvalidKeyRequest, match=r"^name: has \d+ characters; expected 1 to 64 characters"):
        readable_text(name)


@pytest.mark.parametrize("name", [None, 7, b"name", ["name"]])
def test_type_of_a_name(name: object) -> None:
    """A name of another type than str is refused."""
    with pytest.raises(InvalidKeyRequest, match="expected 1 to 64 characters"):
        readable_text(name)


UNSEEN = [
    *(0x00, 0x07, 0x1B, 0x7F, 0x85, 0xAD, 0x34F, 0x61C, 0x115F, 0x180B, 0x180E, 0x200B, 0x200D, 0x200E, 0x202A, 0x202E),
    *(0x2028, 0x2029, 0x2060, 0x2066, 0x2069, 0x206F, 0x2800, 0x3164, 0xD800, 0xDFFF, 0xE000, 0xFE0F, 0xFEFF, 0xFFA0),
    *(0xFFF9, 0x1D173, 0xE0001, 0xE0041, 0xE0100),
]


@pytest.mark.parametrize("character", UNSEEN, ids="U+{:04X}".format)
def test_invisible_characters(character: int) -> None:
    """Control, bidi and other invisible characters and surrogates are refused, and the error names them."""
    with pytest.raises(InvalidKeyRequest, match=rf"contains the invisible character U\+{character:04X}; remove it"):
        readable_text(f"prod{chr(character)}uction")


@given(st.text(st.characters(codec=None), max_size=70))
def test_any_text(text: str) -> None:
    """An accepted name is valid UTF-8, composed and trimmed, and storing it again changes nothing."""
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
def test_key_in_a_name(around: str, cut: int) -> None:
    """A name that contains a key, or most of one, is refused, and the error does not contain it."""
    key = KeyFormat().new().reveal()[:cut]
    with pytest.raises(InvalidKeyRequest, match="contains an API key; remove it, and rotate that key") as caught:
        readable_text(around.format(key))

    assert key not in repr(caught.value) + str(caught.value)


def test_fields_of_the_error() -> None:
    """The error has a code, a field and a remedy."""
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
def test_account_id(id: str) -> None:
    """An account's id is stored as the application wrote it."""
    assert account_id(id) == id


@pytest.mark.parametrize("id", ["", "x" * 129, "a b", "a\n", "\u00e4", "a\0", None, 7])
def test_invalid_account_id(id: str) -> None:
    """An empty id, and one with invisible characters, is refused."""
    with pytest.raises(
        InvalidKeyRequest, match=r"^account_id: not a valid id; expected 1 to 128 visible ASCII characters"
    ):
        account_id(id)


def test_key_as_an_account_id() -> None:
    """A key instead of an id is refused, so that it is written nowhere."""
    with pytest.raises(InvalidKeyRequest, match="contains an API key"):
        account_id(KeyFormat().new().reveal())
