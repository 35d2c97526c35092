import base64
import time

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from tests import strategies

from awx_ratelimit.errors import InvalidKeyRequest
from awx_ratelimit.keys import KeyFinder, KeyFormat

KEY = "awx_0123456789ABCDEFGHIJKLMNOPQRSTUV1Ffk2I"
BODY = KEY[4:]
SHOWN = "awx_...fk2I"


def basic(credentials: str) -> str:
    """Basic credentials (RFC 7617)."""
    return base64.b64encode(credentials.encode()).decode()


def _found(text: str, finder: KeyFinder | None = None) -> list[str]:
    return [found.secret.reveal() for found in (finder or KeyFinder()).find(text)]


@given(strategies.api_keys(), st.text(max_size=50), st.text(max_size=50))
@example("awx_0123456789ABCDEFGHIJKLMNOPQRSTUV1Ffk2I", "awx_", "0")
@example("awx_0123456789ABCDEFGHIJKLMNOPQRSTUV1Ffk2I", "x" * 20 + "awx_", "_")
def test_a_key_is_found_and_hidden_wherever_it_stands(key: str, before: str, after: str) -> None:
    """Whatever stands around a key, it is found at its place; redacted, nothing of its random part is left."""
    assume(key[-38:-6] not in before + after)
    text = before + key + after
    finder = KeyFinder()

    assert (len(before), len(before) + len(key)) in [(found.start, found.end) for found in finder.find(text)]
    assert key[-38:-6] not in finder.redact(text)
    assert _found(finder.redact(text)) == []


@given(st.text(st.sampled_from("awx_test0Zé "), max_size=80))
def test_what_is_no_key_is_not_found(text: str) -> None:
    """There are no false alarms: what is found is a key to the letter."""
    keys = _found(text)

    assert [key for key in keys if not KeyFormat(key[:-38]).is_key(key)] == []


def test_every_key_of_a_text_is_found_in_order() -> None:
    """Several keys, touching one another, are found one by one."""
    others = [KeyFormat(prefix).new().reveal() for prefix in ("awx_", "awx_test_")]

    assert _found(f"{KEY}{others[0]}\n{others[1]}={KEY}") == [KEY, *others, KEY]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"key={KEY}&x=1", f"key={SHOWN}&x=1"),
        (f"{KEY}{KEY}", f"{SHOWN}{SHOWN}"),
        (f"b'{KEY}'", f"b'{SHOWN}'"),
        (f"https://host/?key={KEY}#x", f"https://host/?key={SHOWN}#x"),
        (KEY[:-1], "awx_..."),
        (KEY[:-1] + "0", "awx_..."),
        (KEY[:24], "awx_..."),
        (f"awx_test_{BODY}", "awx_test_..."),
        (f"awx_awx_{BODY}", f"awx_{SHOWN}"),
        # A word that leaves the CRC-32 as it was: this is one key, and the end of it is another.
        (f"awx_t5ihaa92_awx_{BODY}", f"awx_t5ihaa92_{SHOWN}"),
        (f"{'x' * 20}awx_{'y' * 20}awx_{BODY}", f"{'x' * 20}awx_...{SHOWN}"),
        (f"key={KEY.replace('_', '%5F')}&x=1", f"key={SHOWN}&x=1"),
        (KEY.replace("_", "%5f")[:30], "awx_..."),
        (KEY.replace("_", "%25255F"), SHOWN),
        (KEY.replace("_", "\\u005f"), SHOWN),
        (KEY.replace("_", "\\\\x5f"), SHOWN),
        (KEY.replace("_", "&#95;"), SHOWN),
        (KEY.upper(), "AWX_..."),
        (f"Awx_{BODY}", "Awx_..."),
        (KEY.upper().replace("_", "%5F"), "AWX_..."),
        (f"Authorization: Basic {basic(f'{KEY}:')}", f"Authorization: Basic [{SHOWN}:]"),
        (f"Basic {basic(f'ann:{KEY}')} x", f"Basic [ann:{SHOWN}] x"),
        (f"'basic  {basic(f'ann:{KEY}').rstrip('=')}'", f"'basic  [ann:{SHOWN}]'"),
        (f"Basic%20{basic(f'{KEY}:x')}", f"Basic%20[{SHOWN}:x]"),
        (f"Basic {basic(f'{KEY[:-1]}:')}", "Basic [awx_...:]"),
        (f"BASIC {basic(f'{KEY}:')[:40]}", "BASIC [awx_...]"),
        (f"Basic {basic('ann:password of ann')}", f"Basic {basic('ann:password of ann')}"),
        ("basic authentication_of_somebody", "basic authentication_of_somebody"),
        ("awx_ratelimit of awx_short and awx_", "awx_ratelimit of awx_short and awx_"),
        ("nothing", "nothing"),
    ],
)
def test_a_text_is_shown_without_its_keys(text: str, shown: str) -> None:
    """A key is shown in its masked form; what is left of one, or is one letter off, is not shown either."""
    assert KeyFinder().redact(text) == shown


def test_other_prefixes_are_found_when_they_are_named() -> None:
    """A finder of other prefixes finds theirs, and those that go on from them."""
    keys = [KeyFormat(prefix).new().reveal() for prefix in ("acme_", "acme_live_", "b_")]

    assert _found(" ".join(keys)) == []
    assert _found(" ".join(keys), KeyFinder(["acme_", "b_"])) == keys


def test_a_prefix_that_is_none_is_refused() -> None:
    """A finder's prefix is one of a key's, so that it cannot be a pattern."""
    with pytest.raises(InvalidKeyRequest, match="prefix"):
        KeyFinder([".*"])


@pytest.mark.parametrize(
    "text", ["awx_" * 50_000, "awx_a" * 40_000, "awx_" + "0" * 200_000, "awx_0_" * 30_000, BODY * 5_000]
)
def test_a_hostile_text_takes_no_longer_than_its_length(text: str) -> None:
    """Texts made to be slow are searched in a time that is a multiple of their length."""
    finder = KeyFinder()
    began_s = time.process_time()
    finder.redact(text)

    assert time.process_time() - began_s < 2
