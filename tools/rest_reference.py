"""The calls and objects of docs/reference/rest.md, from the OpenAPI documents of the REST APIs."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from awx_ratelimit import PlanTable
from awx_ratelimit.management import openapi, operator_openapi

#: What stands in the path of an example for the id.
_ACCOUNT_ID, _KEY_ID = "acct_acme", "key_2fXk9sQd81LmPz0a"
_VARIABLES: Final = {"customers": "$API", "operators": "$OPERATOR_API"}


def rest_reference() -> str:
    """Return each call of both APIs with its parameters, its body and an example, and then each object."""
    plans = [plan.name for plan in PlanTable.default().plans]
    documents = {
        "customers": openapi.document("/api/v1"),
        "operators": operator_openapi.document("/api/v1/operator", plans, has_gate=True),
    }
    parts: list[str] = []
    for who, document in documents.items():
        base = document["servers"][0]["url"]
        parts += [f"## Calls for {who}\n", f"Paths begin with the `base` of the API, `{base}` by default.\n"]
        parts += _calls(who, document)
    return "\n".join([*parts, *_objects(documents.values())])


def _calls(who: str, document: Mapping[str, Any]) -> Iterator[str]:
    schemas = document["components"]["schemas"]
    for path, calls in document["paths"].items():
        for method, call in calls.items():
            if method != "parameters":
                yield f"### {method.upper()} {path}\n"
                yield f"{call['summary']}.\n"
                yield from _asked([*calls.get("parameters", []), *call.get("parameters", [])], call, schemas)
                yield _command(who, method, path, call)
                yield from _answered(call)


def _asked(parameters: Sequence[Any], call: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[str]:
    rows = [(one["name"], {**one["schema"], "description": one["description"]}, one["required"]) for one in parameters]
    if rows:
        yield _table(("parameter", "type", "default", "meaning"), (_row(*row) for row in rows))
    if "requestBody" not in call:
        return
    body = schemas[_name(call["requestBody"]["content"]["application/json"]["schema"]["$ref"])]
    required = body["required"] if call["requestBody"]["required"] else ()
    if body["properties"]:
        rows = [(name, field, name in required) for name, field in body["properties"].items()]
        yield _table(("field of the body", "type", "default", "meaning"), (_row(*row) for row in rows))


def _row(name: str, schema: Mapping[str, Any], required: bool) -> tuple[str, ...]:
    default = f"`{schema['default']}`" if "default" in schema else ""
    return f"`{name}`", _type(schema), "required" if required else default, schema["description"]


def _command(who: str, method: str, path: str, call: Mapping[str, Any]) -> str:
    query = urlencode({one["name"]: one["example"] for one in call.get("parameters", []) if "example" in one}, safe="/")
    place = path.replace("{id}", _ACCOUNT_ID if path.startswith("/accounts") else _KEY_ID) + (
        f"?{query}" if query else ""
    )
    words = ["curl -s", *(() if method == "get" else (f"-X {method.upper()}",)), f'"{_VARIABLES[who]}{place}"']
    lines = [" ".join(words), '  -H "Authorization: Bearer $TOKEN"']
    body = call.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
    if body is not None:
        lines[-1] += " -H 'Content-Type: application/json'"
        lines.append(f"  -d '{json.dumps(body)}'")
    script = " \\\n".join(lines)
    return f"```sh\n{script}\n```\n"


def _answered(call: Mapping[str, Any]) -> Iterator[str]:
    status, response = next((one, each) for one, each in sorted(call["responses"].items()) if one < "300")
    content = response.get("content", {}).get("application/json")
    if content is None:
        yield f"Status {status}, without a body.\n"
    else:
        csv = ", or as CSV with `format=csv`" if "text/csv" in response["content"] else ""
        yield f"Status {status}, with {_link(content['schema']['$ref'])}{csv}:\n"
        yield f"```json\n{json.dumps(content['example'], indent=2)}\n```\n"
    errors = [status for status in sorted(call["responses"]) if status >= "300"]
    yield f"Errors: {', '.join(errors)}.\n"


def _objects(documents: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Each object in a reply. Those of both documents are the same."""
    found: dict[str, Any] = {}
    for document in documents:
        bodies = {
            _name(call["requestBody"]["content"]["application/json"]["schema"]["$ref"])
            for calls in document["paths"].values()
            for call in calls.values()
            if "requestBody" in call
        }
        for name, schema in document["components"]["schemas"].items():
            if name not in bodies:
                assert found.setdefault(name, schema) == schema, name
    yield "## Objects\n"
    for name, schema in sorted(found.items()):
        yield f"### {name}\n"
        rows = (
            (f"`{field}`{'' if field in schema['required'] else '?'}", _type(part), part["description"])
            for field, part in schema["properties"].items()
        )
        yield _table(("field", "type", "meaning"), rows)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _type(schema: Mapping[str, Any]) -> str:
    """The type of a field, in words."""
    if "$ref" in schema:
        return _link(schema["$ref"])
    if "oneOf" in schema:
        return " or ".join(map(_type, schema["oneOf"]))
    if "enum" in schema:
        return _alternatives(schema["enum"])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return " or ".join(_kind(kind, schema) for kind in kinds)


def _alternatives(values: Sequence[str | None]) -> str:
    words = ["null" if value is None else f"`{value}`" for value in values]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _kind(kind: str, schema: Mapping[str, Any]) -> str:
    if kind == "array":
        return f"array of {_plural(schema['items'])}"
    if kind == "object" and "additionalProperties" in schema:
        return f"object of {_plural(schema['additionalProperties'])} by name"
    if kind == "string" and schema.get("format") == "date-time":
        return "time"
    if kind == "number":
        return f"number above {schema['exclusiveMinimum']}, up to {schema['maximum']:,}"
    if kind == "integer" and "maximum" in schema:
        return f"integer, {schema['minimum']:,} to {schema['maximum']:,}"
    return kind


def _plural(schema: Mapping[str, Any]) -> str:
    return _link(schema["$ref"]) if "$ref" in schema else f"{schema['type']}s"


def _link(reference: str) -> str:
    name = _name(reference)
    return f"[{name}](#{name.lower()})"


def _name(reference: str) -> str:
    return reference.rpartition("/")[2]
