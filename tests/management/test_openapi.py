"""The OpenAPI document agrees with the API: its calls, fields, statuses and valid names."""

import json
import re
import shutil
import subprocess
import unicodedata
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import openapi_spec_validator
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.management.conftest import Client

from awx_ratelimit.errors import InvalidKeyRequest
from awx_ratelimit.keys.validation import NAME_PATTERN, readable_text
from awx_ratelimit.management import openapi
from awx_ratelimit.management.routing import RESOURCES

DOCUMENT = openapi.document("/api/v1")


def test_needs_no_token(client: Client) -> None:
    """The document is served without a token."""
    client.headers = []
    answer = client("GET", "/openapi.json")

    assert answer.status == 200
    assert answer.json == DOCUMENT
    assert answer.json["openapi"] == "3.1.0"


def test_paths() -> None:
    """The document has exactly the paths and methods of the API."""
    paths = DOCUMENT["paths"].items()
    described = {(path, method.upper()) for path, calls in paths for method in calls if method != "parameters"}
    answered = {(path, method) for path, acts in RESOURCES for method in acts}

    assert described == answered - {("/openapi.json", "GET")}


def test_references() -> None:
    """Every referenced schema exists, and every schema is used."""
    used = set(re.findall(r"#/components/schemas/(\w+)", repr(DOCUMENT)))

    assert used == set(DOCUMENT["components"]["schemas"])


def schema_of(path: str, method: str, status: int) -> Any:
    """The schema of a response."""
    answers = DOCUMENT["paths"][path][method]["responses"]
    schema = answers[str(status)]["content"]["application/json"]["schema"]
    return {**schema, "components": DOCUMENT["components"]}


def test_responses(client: Client) -> None:
    """Every response has a documented status and the fields of its schema."""
    key_id = client("POST", "/api-keys", {"name": "n"}).json["id"]
    calls: list[tuple[str, str, Any]] = [
        ("get", "/api-keys", None), ("post", "/api-keys", {"name": "m"}), ("get", "/api-keys/{id}", None),
        ("patch", "/api-keys/{id}", {"name": "m"}), ("post", "/api-keys/{id}/rotate", {"grace_period_seconds": 0}),
        ("post", "/api-keys/{id}/rotate", {}), ("get", "/usage", None), ("get", "/usage/history", None),
        ("post", "/api-keys", {"name": ""}),
    ]  # fmt: skip
    for method, path, body in calls:
        for query in ("", "page_num=1", "x"):
            answer = client(method.upper(), path.replace("{id}", key_id), body, query=query)
            jsonschema_rs.validate(schema_of(path, method, answer.status), answer.json)


def test_names_of_one_character() -> None:
    """Pattern and API agree for every character, except that the pattern may allow newer characters of Unicode.

    A pattern without ranges beyond the Basic Multilingual Plane cannot exclude the invisible characters there.
    """
    is_name = re.compile(NAME_PATTERN).search
    wrong = [
        character
        for character in map(chr, (*range(0xD800), *range(0xE000, 0x110000)))
        # Three quarters are not assigned, and so need not be looked at further.
        if unicodedata.category(character) != "Cn" and bool(is_name(character)) != _is_name(character)
    ]

    assert [character for character in wrong if character < "\U00010000"] == []
    assert all(not _is_name(character) for character in wrong)
    assert len(wrong) == 360


@pytest.mark.parametrize("flags", ["", "u"])
def test_patterns_in_javascript(flags: str) -> None:
    """JavaScript accepts each pattern, with and without the Unicode flag, and matches the same names."""
    script = """
        const [patterns, flags] = JSON.parse(require("fs").readFileSync(0, "utf8"));
        const [name] = patterns.map((pattern) => new RegExp(pattern, flags));
        const found = [];
        for (let code = 0; code < 0x110000; code++)
            if ((code < 0xd800 || code > 0xdfff) && name.test(String.fromCodePoint(code))) found.push(code);
        console.log(JSON.stringify(found));
    """
    patterns = [NAME_PATTERN, *(one["pattern"] for one in _strings(DOCUMENT))]
    node = shutil.which("node")
    assert node, "Node.js is needed: install it"
    done = subprocess.run(
        [node, "-e", script],
        input=json.dumps([patterns, flags]),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    is_name = re.compile(NAME_PATTERN).search
    characters = map(chr, (*range(0xD800), *range(0xE000, 0x110000)))
    assert json.loads(done.stdout) == [ord(character) for character in characters if is_name(character)]


def test_patterns_are_portable() -> None:
    """The document has no character that ends a line of JavaScript or is invisible, and no look-ahead."""
    text = json.dumps(DOCUMENT, ensure_ascii=False)

    assert text.isascii() is True
    assert text.isprintable() is True
    assert "(?" not in text


def test_valid_document() -> None:
    """A validator of OpenAPI finds no error."""
    openapi_spec_validator.validate(DOCUMENT)


def _strings(schema: Any) -> Iterator[dict[str, Any]]:
    """Each schema with a pattern."""
    if isinstance(schema, dict) and isinstance(schema.get("pattern"), str):
        yield schema
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _strings(part)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cn"]), max_size=8))
def test_names_of_several_words(text: str) -> None:
    """Pattern and API agree about names with surrounding white space."""
    assume(all(character < "\U00010000" or _is_name(character) for character in text))
    assert bool(re.search(NAME_PATTERN, text)) == _is_name(text)


@pytest.mark.parametrize(
    "text", ["a" * 64, "a" * 65, " " + "a" * 64 + "\n", "a" + " " * 62 + "a", "a" + " " * 63 + "a"]
)
def test_length_of_names(text: str) -> None:
    """Pattern and API agree that a name has at most 64 characters without surrounding white space."""
    assert bool(re.search(NAME_PATTERN, text)) == _is_name(text)


def _is_name(text: str) -> bool:
    try:
        readable_text(text)
    except InvalidKeyRequest:
        return False
    return True


@pytest.mark.parametrize("base", ["", "/internal"])
def test_server(base: str) -> None:
    """The server's path is the base of the API."""
    assert openapi.document(base)["servers"] == [{"url": base or "/"}]
