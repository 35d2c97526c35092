"""Rules reject paths that would be literal text by mistake, and suggest the right spelling."""

from typing import Any

import pytest

from awx_ratelimit import InvalidLimit, Rule
from awx_ratelimit.http.rules.path_syntax import path_error


@pytest.mark.parametrize(
    ("path", "spelling"),
    [
        ("/u/<id>", "/u/{id}"), ("/u/<int:id>", "/u/{id}"), ("/u/<uuid:id>/x", "/u/{id}/x"),
        ("/u/<any(a,b):id>", "/u/{id}"), ("/u/<regex('[a-z/]+'):id>", "/u/{id}"), ("/u/<path:rest>", "/u/**"),
        ("/u/:id", "/u/{id}"), ("/u/:id?", "/u/{id}"), ("/u/:id(\\d+)", "/u/{id}"), ("/:a/:b", "/{a}/{b}"),
        ("/u/{id:int}", "/u/{id}"), ("/u/{id:[0-9]+}", "/u/{id}"), ("/u/{id?}", "/u/{id}"), ("/u/{id", "/u/{id}"),
        ("/u/{rest:path}", "/u/**"), ("/u/{rest:.*}", "/u/**"), ("/u/{id:path}/x", "/u/{id}/x"), ("/u/{}", "/u/{name}"),
        ("/u/*/keys", "/u/{name}/keys"), ("/u/*rest", "/u/**"), ("/u/*.css", "/u/{name}"), ("/u*", "/u/**"),
        ("/u/{id}.json", "/u/{name}"), ("/u/<id>.json", "/u/{name}"), ("/u/{x}.{y}", "/u/{name}"),
        ("^/u/\\d+$", "/u/{name}"), ("/u/\\d+", "/u/{name}"), ("/u/[0-9]+", "/u/{name}"), ("/u/[^/]+", "/u/{name}"),
        ("/u/(?P<id>\\d+)/", "/u/{id}/"), ("/u/.*", "/u/**"), ("/a.*$", "/a/**"), ("/u/(.*)", "/u/**"), ("/u$", "/u"),
        ("/u\\.json", "/u.json"),
        ("u/<id>", "/u/{id}"), ("u", "/u"), ("", "/"), ("https://x/u/:id", "/u/{id}"), (" /u", "/u"), ("/u\n", "/u"),
        ("/u?a=1", "/u"), ("/u#a", "/u"), ("/caf%C3%A9", "/caf\u00e9"), ("/a/../b", "/b"), ("/a/./b", "/a/b"),
    ],
)  # fmt: skip
def test_suggestion(path: str, spelling: str) -> None:
    """The error names the path and suggests one that Rule accepts."""
    with pytest.raises(InvalidLimit) as caught:
        Rule(path, cost=5)

    assert str(caught.value).startswith(f"Rule({path!r}): ")
    assert str(caught.value).endswith(f"; write {spelling!r}")
    assert Rule(spelling).path == spelling


@pytest.mark.parametrize(
    ("path", "rest", "segment"),
    [
        ("/u/*", "/u/**", "/u/{name}"), ("/*", "/**", "/{name}"), ("*", "/**", "/{name}"),
        ("u/* ", "/u/**", "/u/{name}"),
        ("/u/<id>/*", "/u/{id}/**", "/u/{id}/{name}"), ("/*/*", "/{name}/**", "/{name}/{name}"),
    ],
)  # fmt: skip
def test_star_at_the_end(path: str, rest: str, segment: str) -> None:
    """For a star at the end, the error suggests everything below first, and one segment second."""
    with pytest.raises(InvalidLimit) as caught:
        Rule(path, exempt=True)

    assert str(caught.value).endswith(f"; write {rest!r} or {segment!r}")
    assert path_error(rest) is None
    assert path_error(segment) is None


@pytest.mark.parametrize(
    ("path", "write"),
    [
        ("GET /u/*", "Rule('/u/**', methods=['GET']) or Rule('/u/{name}', methods=['GET'])"),
        ("GET /v1", "Rule('/v1', methods=['GET'])"),
        ("post  /u/<id>", "Rule('/u/{id}', methods=['POST'])"),
        ("DELETE https://x/u", "Rule('/u', methods=['DELETE'])"),
    ],
)
def test_method_in_path(path: str, write: str) -> None:
    """The error for ``GET /path`` shows the argument `methods`."""
    with pytest.raises(InvalidLimit) as caught:
        Rule(path)

    assert str(caught.value) == f"Rule({path!r}): path: expected no method in it; write {write}"


@pytest.mark.parametrize("path", ["/u/**/x", "/a**", "/a\\b", "re:^/x", "/u\0"])
def test_unclear_path(path: str) -> None:
    """If no spelling is certain, the error suggests none that matches more."""
    with pytest.raises(InvalidLimit, match=r"Rule\(") as caught:
        Rule(path)

    assert "**'" not in str(caught.value).partition("; write ")[2]


@pytest.mark.parametrize("path", [None, 5, b"/u"])
def test_path_of_wrong_type(path: Any) -> None:
    """A path that is not a string raises InvalidLimit with an example."""
    with pytest.raises(InvalidLimit, match=r"path: expected a string such as '/v1/transfers', got "):
        Rule(path)


@pytest.mark.parametrize(
    "path",
    [
        "/", "/**", "/a/**", "/{a}/{b}/**", "/.well-known/x", "/@me", "/v1/items:batchGet", "/v1/$batch",
        "/Products(1)", "/a+b", "/a;b", "/a.b/c..d", "/a//b", "/a b", "/caf\u00e9", "/100%", "/a=1,2", "/~user",
    ],
)  # fmt: skip
def test_literal_characters(path: str) -> None:
    """Colons, dollars, brackets and other characters of real paths are literal text."""
    assert path_error(path) is None
