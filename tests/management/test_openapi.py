"""The OpenAPI document tells the truth: about calls, fields and statuses, and about which names are names."""

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


def test_it_is_served_without_a_token(client: Client) -> None:
    """Whoever writes a client may read it."""
    client.headers = []
    answer = client("GET", "/openapi.json")

    assert answer.status == 200
    assert answer.json == DOCUMENT
    assert answer.json["openapi"] == "3.1.0"


def test_every_call_is_described() -> None:
    """Its paths and methods are those that are answered, and no others."""
    paths = DOCUMENT["paths"].items()
    described = {(path, method.upper()) for path, calls in paths for method in calls if method != "parameters"}
    answered = {(path, method) for path, acts in RESOURCES for method in acts}

    assert described == answered - {("/openapi.json", "GET")}


def test_every_reference_leads_somewhere() -> None:
    """There is no schema that is not there, and none that nobody uses."""
    used = set(re.findall(r"#/components/schemas/(\w+)", repr(DOCUMENT)))

    assert used == set(DOCUMENT["components"]["schemas"])


def schema_of(path: str, method: str, status: int) -> Any:
    """What an answer has to be like."""
    answers = DOCUMENT["paths"][path][method]["responses"]
    schema = answers[str(status)]["content"]["application/json"]["schema"]
    return {**schema, "components": DOCUMENT["components"]}


def test_answers_are_what_it_says(client: Client) -> None:
    """Each answer, good or not, has a status that is described, and the fields of its schema."""
    key_id = client("POST", "/api-keys", {"name": "n"}).json["id"]
    calls: list[tuple[str, str, Any]] = [
        ("get", "/api-keys", None), ("post", "/api-keys", {"name": "m"}), ("get", "/api-keys/{id}", None),
        ("patch", "/api-keys/{id}", {"name": "m"}), ("post", "/api-keys/{id}/rotate", {"grace_period_seconds": 0}),
        ("post", "/api-keys/{id}/rotate", {}), ("get", "/usage", None), ("post", "/api-keys", {"name": ""}),
    ]  # fmt: skip
    for method, path, body in calls:
        for query in ("", "page_num=1", "x"):
            answer = client(method.upper(), path.replace("{id}", key_id), body, query=query)
            jsonschema_rs.validate(schema_of(path, method, answer.status), answer.json)


def test_what_it_calls_a_name_is_one() -> None:
    """Of every single character it is said rightly whether it can be a name; newer ones of Unicode may be left out.

    A pattern without ranges beyond the Basic Multilingual Plane cannot name the unseen ones there.
    """
    is_name = re.compile(NAME_PATTERN).search
    wrong = [
        character
        for character in map(chr, (*range(0xD800), *range(0xE000, 0x110000)))
        if bool(is_name(character)) != _is_name(character) and unicodedata.category(character) != "Cn"
    ]

    assert [character for character in wrong if character < "\U00010000"] == []
    assert all(not _is_name(character) for character in wrong)
    assert len(wrong) == 360


@pytest.mark.parametrize("flags", ["", "u"])
def test_its_patterns_are_those_of_ecma_262(flags: str) -> None:
    """JavaScript reads each, with and without the flag for Unicode, and finds the same characters to be names."""
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


def test_it_can_be_put_into_a_program() -> None:
    """There is no character in it that ends a line of JavaScript or cannot be seen, and no pattern that looks ahead."""
    text = json.dumps(DOCUMENT, ensure_ascii=False)

    assert text.isascii() is True
    assert text.isprintable() is True
    assert "(?" not in text


def test_a_validator_of_openapi_finds_nothing() -> None:
    """It is an OpenAPI document to the letter."""
    openapi_spec_validator.validate(DOCUMENT)


def _strings(schema: Any) -> Iterator[dict[str, Any]]:
    """Each schema that has a pattern."""
    if isinstance(schema, dict) and isinstance(schema.get("pattern"), str):
        yield schema
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _strings(part)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cn"]), max_size=8))
def test_what_it_calls_a_name_is_one_in_words(text: str) -> None:
    """White space around it counts in neither."""
    assume(all(character < "\U00010000" or _is_name(character) for character in text))
    assert bool(re.search(NAME_PATTERN, text)) == _is_name(text)


@pytest.mark.parametrize(
    "text", ["a" * 64, "a" * 65, " " + "a" * 64 + "\n", "a" + " " * 62 + "a", "a" + " " * 63 + "a"]
)
def test_it_counts_as_names_are_counted(text: str) -> None:
    """A name has at most 64 characters, and white space around it does not count."""
    assert bool(re.search(NAME_PATTERN, text)) == _is_name(text)


def _is_name(text: str) -> bool:
    try:
        readable_text(text)
    except InvalidKeyRequest:
        return False
    return True


@pytest.mark.parametrize("base", ["", "/internal"])
def test_it_says_where_it_is(base: str) -> None:
    """The server's path is the base of the API."""
    assert openapi.document(base)["servers"] == [{"url": base or "/"}]
