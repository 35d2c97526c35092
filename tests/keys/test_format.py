"""The format of keys, their digests and ids."""

import copy
import hashlib
import hmac
import logging
import pickle
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import strategies

from awx_ratelimit.errors import InvalidKeyRequest
from awx_ratelimit.keys import KeyFormat, Secret
from awx_ratelimit.keys.format import is_key_id, new_key_id

# An old key, which must stay valid.
KEY = "awx_0123456789ABCDEFGHIJKLMNOPQRSTUV1Ffk2I"
PEPPER = b"sixteen bytes at"


def test_new_key() -> None:
    """A key consists of the prefix, 32 characters of base62 and 6 of a check sum, and no two keys are equal."""
    keys = {KeyFormat("awx_test_").new().reveal() for _ in range(500)}

    assert len(keys) == 500
    assert [key for key in keys if not key.startswith("awx_test_") or len(key) != 47] == []
    assert [key for key in keys if key[-6:] != strategies.base62(crc32(key[:-6].encode()), 6)] == []


def test_random_characters() -> None:
    """Every character of base62 occurs at every position of the random part."""
    bodies = [KeyFormat().new().reveal()[4:36] for _ in range(1500)]

    assert {frozenset(place) for place in zip(*bodies, strict=True)} == {frozenset(strategies.BASE62)}


@given(strategies.api_keys())
def test_valid_key(key: str) -> None:
    """A key with the right form is accepted, as bytes and as text."""
    form = KeyFormat(key[:-38])

    assert form.is_key(key) is True
    assert form.is_key(key.encode()) is True


def test_old_key() -> None:
    """A key that an earlier version created is still accepted."""
    assert KeyFormat().is_key(KEY)


@given(strategies.api_keys(), st.integers(0, 200), st.characters(codec="utf-8"))
def test_one_wrong_character(key: str, place: int, letter: str) -> None:
    """A key with any one character replaced is invalid."""
    place %= len(key)
    changed = key[:place] + letter + key[place + 1 :]

    assert KeyFormat(key[:-38]).is_key(changed) is (changed == key)


@pytest.mark.parametrize(
    "body",
    ["awx_test_" + KEY[4:36], KEY[:35], KEY[:36] + "0", KEY[:10] + "_" + KEY[11:36], KEY[:10] + " " + KEY[11:36]],
)
def test_valid_check_sum_of_an_invalid_key(body: str) -> None:
    """Another prefix, another length or other characters are invalid even with the right check sum."""
    assert not KeyFormat().is_key(body + strategies.base62(crc32(body.encode()), 6))


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "awx_",
        KEY[:-1],
        KEY + "0",
        KEY + "\n",
        "\n" + KEY,
        KEY + "\0",
        " " + KEY,
        KEY.upper(),
        "AWX_" + KEY[4:],
        "xwa_" + KEY[4:],
        KEY[4:],
        KEY.replace("0", "\u0660"),
        KEY + KEY,
        KEY * 1000,
        "awx_test_" + KEY[4:],
        "\ud800" * 42,
    ],
)
def test_almost_a_key(wrong: str) -> None:
    """A key that is shortened, longer, changed in case or surrounded by other characters is invalid."""
    form = KeyFormat()

    assert form.is_key(wrong) is False
    assert form.is_key(wrong.encode("utf-8", "surrogatepass")) is False


def test_digest() -> None:
    """Without a pepper the digest is the SHA-256 of the whole key."""
    assert KeyFormat().digest(KEY.encode()) == hashlib.sha256(KEY.encode()).digest()


@pytest.mark.parametrize("pepper", [PEPPER, b"p" * 64, b"p" * 65, bytes(200)])
def test_digest_with_a_pepper(pepper: bytes) -> None:
    """With a pepper of any length the digest is an HMAC-SHA-256."""
    digest = KeyFormat(pepper=pepper).digest

    expected = hmac.digest(pepper, KEY.encode(), "sha256")
    assert [digest(KEY.encode()), digest(KEY.encode())] == [expected, expected]


@pytest.mark.parametrize("prefix", ["a_", "awx_test_", "k9_2_", "a" * 31 + "_"])
def test_valid_prefix(prefix: str) -> None:
    """A prefix consists of lowercase letters, digits and underscores."""
    assert KeyFormat(prefix).is_key(KeyFormat(prefix).new().reveal())


@pytest.mark.parametrize(
    "prefix", ["", "_", "awx", "9_", "Awx_", "awx__", "awx_\n", "ä_", "a" * 32 + "_", "a.b_", None]
)
def test_invalid_prefix(prefix: str) -> None:
    """The error says what is allowed."""
    with pytest.raises(InvalidKeyRequest, match=r"^prefix: .*expected 2 to 32"):
        KeyFormat(prefix)


@pytest.mark.parametrize("pepper", [b"", b"fifteen bytes a", "a text of many bytes"])
def test_weak_pepper(pepper: bytes) -> None:
    """A pepper that could be guessed is refused, and the error does not contain it."""
    with pytest.raises(InvalidKeyRequest, match=r"^pepper: too short or not bytes; expected at least 16 bytes"):
        KeyFormat(pepper=pepper)


def test_repr_hides_the_pepper() -> None:
    """The repr of a format does not contain the pepper."""
    assert repr(KeyFormat(pepper=PEPPER)) == "KeyFormat('awx_')"


def test_new_ids() -> None:
    """An id is `key_` and 16 random characters, and no two ids are equal."""
    ids = {new_key_id() for _ in range(500)}

    assert len(ids) == 500
    assert [one for one in ids if not is_key_id(one)] == []


@pytest.mark.parametrize(
    "wrong", ["", "key_", "key_" + "a" * 15, "key_" + "a" * 17, "key_" + "a" * 16 + "\n", "KEY_" + "a" * 16]
)
def test_invalid_id(wrong: str) -> None:
    """Any other text is not an id."""
    assert is_key_id(wrong) is None


def test_secret_is_masked(caplog: pytest.LogCaptureFixture) -> None:
    """Printing a secret shows the masked form; only `reveal` returns the key."""
    secret = Secret(KEY, prefix="awx_")
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("t").debug("%s %r %s", secret, secret, {"secret": [secret]})
    shown = [str(secret), repr(secret), f"{secret:>20}", f"{secret!r}", format(secret), str([secret]), caplog.text]

    assert [text for text in shown if "awx_...fk2I" not in text or KEY[4:20] in text] == []
    assert secret.reveal() == KEY


def test_secret_cannot_be_pickled() -> None:
    """A secret cannot be pickled, and a copy of it is the same object."""
    secret = Secret(KEY, prefix="awx_")

    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(secret, protocol)
    assert copy.copy(secret) is copy.deepcopy(secret) is secret


def test_equality_of_secrets() -> None:
    """Secrets with the same text are equal, and secrets cannot be keys of a dict."""
    secret = Secret(KEY, prefix="awx_")

    assert secret == Secret(KEY, prefix="awx_")
    assert secret != KEY
    assert secret != Secret(KEY[:-1], prefix="awx_")
    with pytest.raises(TypeError, match="unhashable"):
        {secret: 1}  # noqa: B018  # the making is what fails
    assert not hasattr(secret, "__dict__")
