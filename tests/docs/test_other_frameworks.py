"""docs/frameworks.md: the frameworks without `limit`, from Falcon on."""

from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.docs.pages import blocks, import_pyramid, run_text
from werkzeug.test import Client

from awx_ratelimit.testing import frozen

KEY = {"X-API-Key": "awx_example_key"}
#: A word of each block, and the name of its app.
LIMITED = {
    **dict.fromkeys(("falcon", "bottle", "pyramid"), "app"),
    "limited_wsgi": "limited_wsgi",
    "limited_asgi": "limited_asgi",
}


def names_of(word: str) -> dict[str, Any]:
    """The names of the block with this word, behind the blocks of Falcon and GraphQL."""
    import_pyramid()
    texts = blocks("docs/frameworks.md", "python")
    first, graphql = (next(text for text in texts if f"import {name}" in text) for name in ("falcon", "strawberry"))
    return run_text(first + graphql + next(text for text in texts if word in text))


def ask(app: Any, path: str) -> Any:
    """The response of a WSGI or an ASGI app, whose charges are settled."""
    if "Wsgi" in type(app).__name__:
        with Client(app).get(path, headers=KEY) as response:
            response.get_data()
            return response
    return TestClient(app).get(path, headers=KEY)


@pytest.mark.parametrize("word", LIMITED)
def test_limited_path(word: str) -> None:
    """Five searches a minute are admitted, and the handler knows what is left of the plan."""
    app = names_of(word)[LIMITED[word]]

    with frozen(app.gate):
        answers = [ask(app, "/search") for _ in range(6)]

    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert "55" in answers[4].text
    assert '"minute";r=55' in answers[5].headers["ratelimit"]


def test_own_response_and_cost() -> None:
    """The refusal has the body of the page, and an export costs what `settle` says."""
    app = names_of("import falcon")["app"]

    with frozen(app.gate):
        answers = [ask(app, path) for path in ("/export", *["/search"] * 6)]

    assert '"minute";r=56' in answers[1].headers["ratelimit"]
    assert answers[-1].get_json() == {"error": "slow_down", "wait": 12}


def test_fields_of_a_query() -> None:
    """The fields of a query pay together, whatever their number."""
    app = names_of("strawberry")["app"]
    query = {"query": "{ few: agents(first: 3) more: agents(first: 4) }"}

    with frozen(app.gate):
        client = TestClient(app, headers=KEY)
        left = [client.post("/", json=query).headers["ratelimit"].split(";t")[0] for _ in range(2)]

    assert left == ['"minute";r=40', '"minute";r=33']
