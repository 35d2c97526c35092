"""What to change after an error of a server."""

from redis import exceptions

from awx_ratelimit.backends.redis.endpoint import open_endpoint
from awx_ratelimit.backends.redis.remedies import advice_for


def test_braces_in_the_text_of_a_server() -> None:
    """The server's text is repeated as it is, whatever the name of a user contains."""
    text = "User {team} has no permissions to run the 'evalsha' command"
    advice = advice_for(exceptions.NoPermissionError(text), text, open_endpoint("redis://localhost", 1.0), "+evalsha")

    assert text in advice
    assert "+evalsha" in advice
