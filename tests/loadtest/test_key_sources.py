"""Keys for a load test: where they come from, and that reports do not show them."""

import json

from awx_ratelimit.loadtest import key_sources


def test_keys_are_taken_out_of_arguments() -> None:
    """However they are written, and as often as they are."""
    assert key_sources.split_arguments(["loadtest", "--key", "a", "--plan=b", "--key=c", "--keys", "f"]) == (
        ["loadtest", "--plan=b", "--keys", "f"],
        ["a", "c"],
    )


def test_keys_are_masked_also_in_json() -> None:
    """A gateway that tells a key back does not bring it into a report."""
    secret = 'awx_"quoted"'

    assert key_sources.masked(json.dumps({"body": f"<{secret}>"}) + secret, [secret]) == '{"body": "<[key]>"}[key]'


def test_a_short_key_is_a_word_like_others() -> None:
    """Whoever's key is `rate` does not want it to be taken out of every sentence."""
    assert key_sources.masked('{"code": "rate_limit_exceeded"}', ["rate"]) == '{"code": "rate_limit_exceeded"}'
