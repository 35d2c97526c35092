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

# Written down once: a key that was made long ago must still be one.
KEY = "awx_0123456789ABCDEFGHIJKLMNOPQRSTUV1Ffk2I"
PEPPER = b"sixteen bytes at"


def test_a_new_key_has_the_form_of_one() -> None:
    """A key is the prefix, 32 characters of base62 and 6 that check them, and no two are the same."""
    keys = {KeyFormat("awx_test_").new().reveal() for _ in range(500)}

    assert len(keys) == 500
    assert [key for key in keys if not key.startswith("awx_test_") or len(key) != 47] == []
    assert [key for key in keys if key[-6:] != strategies.base62(crc32(key[:-6].encode()), 6)] == []


def test_every_character_of_base62_is_drawn() -> None:
    """The random part has the whole alphabet at each of its places."""
    bodies = [KeyFormat().new().reveal()[4:36] for _ in range(1500)]

    assert {frozenset(place) for place in zip(*bodies, strict=True)} == {frozenset(strategies.BASE62)}


@given(strategies.api_keys())
def test_a_key_is_known_by_its_letters(key: str) -> None:
    """What is made by the rules is a key of its prefix, as bytes and as text."""
    form = KeyFormat(key[:-38])

    assert form.is_key(key) is True
    assert form.is_key(key.encode()) is True


def test_a_key_of_old_stays_one() -> None:
    """The form does not change with the code."""
    assert KeyFormat().is_key(KEY)


@given(strategies.api_keys(), st.integers(0, 200), st.characters(codec="utf-8"))
def test_one_letter_off_is_no_key(key: str, place: int, letter: str) -> None:
    """Any one letter that is replaced makes it another text, and no key."""
    place %= len(key)
    changed = key[:place] + letter + key[place + 1 :]

    assert KeyFormat(key[:-38]).is_key(changed) is (changed == key)


@pytest.mark.parametrize(
    "body",
    ["awx_test_" + KEY[4:36], KEY[:35], KEY[:36] + "0", KEY[:10] + "_" + KEY[11:36], KEY[:10] + " " + KEY[11:36]],
)
def test_a_check_that_is_right_is_not_enough(body: str) -> None:
    """Another prefix, another length and other letters are no key, though the check follows from them."""
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
def test_what_is_nearly_a_key_is_none(wrong: str) -> None:
    """Cut, longer, in other letters, with something around it: it is no key."""
    form = KeyFormat()

    assert form.is_key(wrong) is False
    assert form.is_key(wrong.encode("utf-8", "surrogatepass")) is False


def test_the_digest_is_the_sha256_of_the_whole_key() -> None:
    """Without a pepper a key is stored as its SHA-256."""
    assert KeyFormat().digest(KEY.encode()) == hashlib.sha256(KEY.encode()).digest()


@pytest.mark.parametrize("pepper", [PEPPER, b"p" * 64, b"p" * 65, bytes(200)])
def test_with_a_pepper_the_digest_is_an_hmac(pepper: bytes) -> None:
    """With a pepper of any length a key is stored as its HMAC-SHA-256."""
    digest = KeyFormat(pepper=pepper).digest

    expected = hmac.digest(pepper, KEY.encode(), "sha256")
    assert [digest(KEY.encode()), digest(KEY.encode())] == [expected, expected]


@pytest.mark.parametrize("prefix", ["a_", "awx_test_", "k9_2_", "a" * 31 + "_"])
def test_prefixes_that_are_allowed(prefix: str) -> None:
    """A prefix is small letters, digits and underscores."""
    assert KeyFormat(prefix).is_key(KeyFormat(prefix).new().reveal())


@pytest.mark.parametrize(
    "prefix", ["", "_", "awx", "9_", "Awx_", "awx__", "awx_\n", "ä_", "a" * 32 + "_", "a.b_", None]
)
def test_prefixes_that_are_refused(prefix: str) -> None:
    """A prefix that is none is refused with what is allowed."""
    with pytest.raises(InvalidKeyRequest, match=r"^prefix: .*expected 2 to 32"):
        KeyFormat(prefix)


@pytest.mark.parametrize("pepper", [b"", b"fifteen bytes a", "a text of many bytes"])
def test_a_weak_pepper_is_refused(pepper: bytes) -> None:
    """A pepper that can be guessed is refused, and not shown."""
    with pytest.raises(InvalidKeyRequest, match=r"^pepper: too short or not bytes; expected at least 16 bytes"):
        KeyFormat(pepper=pepper)


def test_a_format_does_not_show_its_pepper() -> None:
    """The pepper is in no repr."""
    assert repr(KeyFormat(pepper=PEPPER)) == "KeyFormat('awx_')"


def test_ids_are_random_and_have_a_form() -> None:
    """An id is key_ and 16 characters, each another one."""
    ids = {new_key_id() for _ in range(500)}

    assert len(ids) == 500
    assert [one for one in ids if not is_key_id(one)] == []


@pytest.mark.parametrize(
    "wrong", ["", "key_", "key_" + "a" * 15, "key_" + "a" * 17, "key_" + "a" * 16 + "\n", "KEY_" + "a" * 16]
)
def test_what_is_no_id(wrong: str) -> None:
    """An id is one to the letter."""
    assert is_key_id(wrong) is None


def test_nothing_shows_a_secret_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever prints values prints the masked form; the key is in `reveal` alone."""
    secret = Secret(KEY, prefix="awx_")
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("t").debug("%s %r %s", secret, secret, {"secret": [secret]})
    shown = [str(secret), repr(secret), f"{secret:>20}", f"{secret!r}", format(secret), str([secret]), caplog.text]

    assert [text for text in shown if "awx_...fk2I" not in text or KEY[4:20] in text] == []
    assert secret.reveal() == KEY


def test_a_secret_is_not_pickled_and_is_one_when_copied() -> None:
    """It cannot be written to a cache or sent to a process; a copy is itself."""
    secret = Secret(KEY, prefix="awx_")

    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(secret, protocol)
    assert copy.copy(secret) is copy.deepcopy(secret) is secret


def test_secrets_are_equal_by_their_text_and_no_key_of_a_dict() -> None:
    """Two sights of one key are equal; a dict is no place for them."""
    secret = Secret(KEY, prefix="awx_")

    assert secret == Secret(KEY, prefix="awx_")
    assert secret != KEY
    assert secret != Secret(KEY[:-1], prefix="awx_")
    with pytest.raises(TypeError, match="unhashable"):
        {secret: 1}  # noqa: B018  # the making is what fails
    assert not hasattr(secret, "__dict__")
