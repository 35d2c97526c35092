"""Keys of a load test: where they come from, and that reports do not contain them."""

import json

from awx_ratelimit.loadtest import key_sources


def test_keys_are_removed_from_arguments() -> None:
    """Every ``--key K`` and ``--key=K`` is removed and its key returned."""
    rest, keys = key_sources.split_arguments(["loadtest", "--key", "a", "--plan=b", "--key=c", "--keys", "f"])

    assert rest == ["loadtest", "--plan=b", "--keys", "f"]
    assert keys == ["a", "c"]


def test_keys_are_masked_in_json() -> None:
    """A key is masked as plain text and as a JSON string."""
    secret = 'awx_"quoted"'

    assert key_sources.masker([secret])(json.dumps({"body": f"<{secret}>"}) + secret) == '{"body": "<[key]>"}[key]'


def test_short_keys_are_not_masked() -> None:
    """A key such as ``rate`` is a common word and is not masked."""
    assert key_sources.masker(["rate"])('{"code": "rate_limit_exceeded"}') == '{"code": "rate_limit_exceeded"}'
