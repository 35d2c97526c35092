"""A path that a rule would take for literal text is refused, with the spelling that works."""

from typing import Any

import pytest

from awx_ratelimit import InvalidLimit, Rule
from awx_ratelimit.http.rules.path_patterns import path_error


@pytest.mark.parametrize(
    ("path", "spelling"),
    [
        ("/u/<id>", "/u/{id}"), ("/u/<int:id>", "/u/{id}"), ("/u/<uuid:id>/x", "/u/{id}/x"),
        ("/u/<any(a,b):id>", "/u/{id}"), ("/u/<regex('[a-z/]+'):id>", "/u/{id}"), ("/u/<path:rest>", "/u/**"),
        ("/u/:id", "/u/{id}"), ("/u/:id?", "/u/{id}"), ("/u/:id(\\d+)", "/u/{id}"), ("/:a/:b", "/{a}/{b}"),
        ("/u/{id:int}", "/u/{id}"), ("/u/{id:[0-9]+}", "/u/{id}"), ("/u/{id?}", "/u/{id}"), ("/u/{id", "/u/{id}"),
        ("/u/{rest:path}", "/u/**"), ("/u/{rest:.*}", "/u/**"), ("/u/{id:path}/x", "/u/{id}/x"), ("/u/{}", "/u/{name}"),
        ("/u/*", "/u/{name}"), ("/u/*/keys", "/u/{name}/keys"), ("/u/*rest", "/u/**"), ("/u/*.css", "/u/{name}"),
        ("/u/{id}.json", "/u/{name}"), ("/u/<id>.json", "/u/{name}"), ("/u/{x}.{y}", "/u/{name}"),
        ("^/u/\\d+$", "/u/{name}"), ("/u/\\d+", "/u/{name}"), ("/u/[0-9]+", "/u/{name}"), ("/u/[^/]+", "/u/{name}"),
        ("/u/(?P<id>\\d+)/", "/u/{id}/"), ("/u/.*", "/u/**"), ("/u/(.*)", "/u/**"), ("/u$", "/u"),
        ("/u\\.json", "/u.json"),
        ("u/<id>", "/u/{id}"), ("u", "/u"), ("", "/"), ("https://x/u/:id", "/u/{id}"), (" /u", "/u"), ("/u\n", "/u"),
        ("/u?a=1", "/u"), ("/u#a", "/u"), ("/caf%C3%A9", "/caf\u00e9"), ("/a/../b", "/b"), ("/a/./b", "/a/b"),
    ],
)  # fmt: skip
def test_a_path_in_the_spelling_of_others_is_refused_with_ours(path: str, spelling: str) -> None:
    """The error names the path, and the spelling that it gives is one that a rule takes."""
    with pytest.raises(InvalidLimit) as caught:
        Rule(path, cost=5)

    assert str(caught.value).startswith(f"Rule({path!r}): ")
    assert str(caught.value).endswith(f"; write {spelling!r}")
    assert Rule(spelling).path == spelling


@pytest.mark.parametrize(
    ("path", "write"),
    [
        ("GET /v1", "Rule('/v1', methods=['GET'])"),
        ("post  /u/<id>", "Rule('/u/{id}', methods=['POST'])"),
        ("DELETE https://x/u", "Rule('/u', methods=['DELETE'])"),
    ],
)
def test_a_method_in_a_path_is_refused_with_the_argument_for_it(path: str, write: str) -> None:
    """Other frameworks write routes as ``GET /path``."""
    with pytest.raises(InvalidLimit) as caught:
        Rule(path)

    assert str(caught.value) == f"Rule({path!r}): a path has no method; write {write}"


@pytest.mark.parametrize("path", ["/u/**/x", "/a**", "/a\\b", "re:^/x", "/u\0"])
def test_a_path_whose_meaning_is_not_clear_is_refused(path: str) -> None:
    """Where no spelling is sure, the error says what is wrong and gives none that matches more."""
    with pytest.raises(InvalidLimit, match=r"Rule\(") as caught:
        Rule(path)

    assert "**'" not in str(caught.value).partition("; write ")[2]


@pytest.mark.parametrize("path", [None, 5, b"/u"])
def test_a_path_is_text(path: Any) -> None:
    """A path of another type is an InvalidLimit that shows how to write one."""
    with pytest.raises(InvalidLimit, match=r"the path is .*; use a string such as '/v1/transfers'"):
        Rule(path)


@pytest.mark.parametrize(
    "path",
    [
        "/", "/**", "/a/**", "/{a}/{b}/**", "/.well-known/x", "/@me", "/v1/items:batchGet", "/v1/$batch",
        "/Products(1)", "/a+b", "/a;b", "/a.b/c..d", "/a//b", "/a b", "/caf\u00e9", "/100%", "/a=1,2", "/~user",
    ],
)  # fmt: skip
def test_what_paths_really_have_is_taken(path: str) -> None:
    """Colons, dollars, brackets and other letters of real paths are literal text."""
    assert path_error(path) is None
