"""How keys are found in texts."""

import base64
import time
from collections.abc import Callable

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
def test_position_of_a_key(key: str, before: str, after: str) -> None:
    """A key is found at its exact position in any text, and redaction removes all of its random part."""
    assume(key[-38:-6] not in before + after)
    text = before + key + after
    finder = KeyFinder()

    spans = [(found.start, found.end) for found in finder.find(text)]
    assert (len(before), len(before) + len(key)) in spans
    assert key[-38:-6] not in finder.redact(text)
    assert _found(finder.redact(text)) == []


@given(st.text(st.sampled_from("awx_test0Zé "), max_size=80))
def test_no_false_alarms(text: str) -> None:
    """Texts that are almost keys are not found."""
    keys = _found(text)

    assert [key for key in keys if not KeyFormat(key[:-38]).is_key(key)] == []


def test_several_keys() -> None:
    """Several keys are found in order, even without anything between them."""
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
        # These characters do not change the CRC-32: the whole text is a key, and its end is another key.
        (f"awx_t5ihaa92_awx_{BODY}", f"awx_t5ihaa92_{SHOWN}"),
        (f"{'x' * 20}awx_{'y' * 20}awx_{BODY}", f"{'x' * 20}awx_...{SHOWN}"),
        (f"key={KEY.replace('_', '%5F')}&x=1", f"key={SHOWN}&x=1"),
        (KEY.replace("_", "%5f")[:30], "awx_..."),
        (KEY.replace("_", "%25255F"), SHOWN),
        (KEY.replace("_", "\\u005f"), SHOWN),
        (KEY.replace("_", "\\\\x5f"), SHOWN),
        (KEY.replace("_", "&#95;"), SHOWN),
        (KEY.replace("_", "&#0095;"), SHOWN),
        (KEY.replace("_", "&#x005F;"), SHOWN),
        (KEY.replace("_", "&lowbar;"), SHOWN),
        (KEY.replace("_", "\\U0000005f"), SHOWN),
        (KEY.replace("_", "\\u{5F}"), SHOWN),
        (KEY.replace("_", "\\137"), SHOWN),
        (KEY.replace("_", "=5F"), SHOWN),
        (f"key: {basic(KEY)}", f"key: {SHOWN}"),
        (f"key: {basic(f'k={KEY}; x')}", f"key: az1{SHOWN}7IHg="),
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
def test_redacted_text(text: str, shown: str) -> None:
    """Redaction masks keys, and also fragments of keys and keys with a wrong character."""
    assert KeyFinder().redact(text) == shown


def test_other_prefixes() -> None:
    """A finder of other prefixes finds their keys, and keys whose prefix begins with one of them."""
    keys = [KeyFormat(prefix).new().reveal() for prefix in ("acme_", "acme_live_", "b_")]

    assert _found(" ".join(keys)) == []
    assert _found(" ".join(keys), KeyFinder(["acme_", "b_"])) == keys


def test_invalid_prefix() -> None:
    """Only a valid prefix is accepted, so a prefix cannot be a pattern."""
    with pytest.raises(InvalidKeyRequest, match="prefix"):
        KeyFinder([".*"])


@pytest.mark.parametrize(
    "text",
    [
        "awx_" * 50_000,
        "awx_a" * 40_000,
        "awx_" + "0" * 200_000,
        "awx_0_" * 30_000,
        BODY * 5_000,
        "YXd4X" * 40_000,
        "F3eF" * 50_000,
    ],
)
def test_hostile_text(text: str) -> None:
    """The time to search a hostile text is proportional to its length."""
    finder = KeyFinder()
    began_s = time.process_time()
    finder.redact(text)

    assert time.process_time() - began_s < 2


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@given(strategies.api_keys(), st.text(max_size=20), st.text(max_size=50), st.integers(0, 2))
def test_base64(encode: Callable[[bytes], bytes], key: str, before: str, after: str, left_out: int) -> None:
    """A key in Base64 is found wherever it begins, also without padding, and redaction removes it."""
    written = encode(f"{before}{key}{after}".encode()).decode()
    written = written.removesuffix("=" * left_out)

    assert key in _found(f"secret: {written}")
    assert _found(KeyFinder().redact(f"secret: {written}")) == []
