"""The paths of rules. Those in the syntax of other frameworks are refused with the right spelling."""

import re
from collections.abc import Iterator
from urllib.parse import unquote

from awx_ratelimit.http.rules.path_readings import without_dot_segments

#: A variable that matches one segment.
SEGMENT = re.compile(r"\{\w+\}")
#: A one-segment variable in the syntax of other frameworks:
#: ``<id>``, ``<int:id>``, ``{id:int}``, ``:id``, ``(?P<id>\d+)``, ``*``.
_VARIABLE = re.compile(
    r"<(?:\w+(?:\([^)]*\))?:)?(?P<angle>\w+)>|\{(?P<brace>\w+)[:?][^{}]*\}|:(?P<colon>\w+)(?:\([^)]*\))?\??"
    r"|\(\?P<(?P<group>\w+)>.*\)\??|(?P<star>\*)|(?P<class>\(?(?:\\[dwDWsS][+*?]?|\[[^\]]*\][+*?]?|\.[+*?])\)?)(?:\{[\d,]+\})?"
)
_ALL_THE_REST = re.compile(r"<path:\w+>|\{\w+:path\}|\{\w+:\.[*+]\}|\*\w+|\*\*|\(?(?:\?P<\w+>)?\.[*+]\)?|\{\*\w+\}")
_REGULAR_EXPRESSION = re.compile(r"\\|\(\?|\[\^|\[[a-z0-9]-[a-z0-9]|\.[*+]|\^|\$$|\)[+*?]", re.IGNORECASE)
_STAR_AT_END = re.compile(r"(?:^|/)\*\s*$")
#: A prefix in the syntax of proxies, as in ``/static*``.
_PREFIX = re.compile(r"([\w.-]*[\w-])\.?\*")
_METHOD = re.compile(r"\s*([A-Za-z]+)\s+(?=/|\w+://)")
_ESCAPED = re.compile(r"%[0-9A-Fa-f]{2}")


def path_error(path: object) -> str | None:
    """The error for the path of a rule, with a suggestion where one is certain; None for a valid path."""
    if not isinstance(path, str):
        return f"path: expected a string such as '/v1/transfers', got {path!r}"
    error = next(_errors(path), None)
    if error is None:
        return None
    method, rest = _METHOD.match(path), _METHOD.sub("", path)
    suggestions = _suggestions(rest)
    if method is not None:
        rules = [f"Rule({suggestion!r}, methods=[{method[1].upper()!r}])" for suggestion in suggestions]
        return f"path: expected no method in it; write {' or '.join(rules)}"
    if next(_errors(suggestions[-1]), None) is not None:
        return error
    return f"{error}; write {' or '.join(map(repr, suggestions))}"


def _errors(path: str) -> Iterator[str]:
    if not path.startswith("/"):
        yield "a path must begin with '/'"
    if not path.isprintable() or path != path.strip():
        yield "a path cannot have spaces at its ends or control characters"
    if _ESCAPED.search(path):
        yield "a path must be written without escapes"
    segments = path.removesuffix("/**").split("/")
    if "." in segments or ".." in segments:
        yield "a path cannot have '.' or '..' segments"
    for segment in segments:
        if not SEGMENT.fullmatch(segment) and (_is_variable(segment) or _REGULAR_EXPRESSION.search(segment)):
            yield f"{segment!r} would be literal text: '{{name}}' matches one segment, '/**' at the end all the rest"
    if "?" in path or "#" in path:
        yield "a path cannot have a query or a fragment"


def _is_variable(segment: str) -> bool:
    return bool(re.search(r"[{}*<>]", segment) or segment.startswith(":"))


def _suggestions(path: str) -> list[str]:
    """`path` in the syntax of rules. A ``*`` at its end means all the rest to some readers, one segment to others."""
    suggestion = _suggestion(path)
    if not _STAR_AT_END.search(path):
        return [suggestion]
    return [f"{suggestion.rpartition('/')[0]}/**", suggestion]


def _suggestion(path: str) -> str:
    """`path` in the syntax of rules, as far as its meaning is clear."""
    text = re.sub(r"^\w+://[^/]*", "", path.strip()).removeprefix("^").removesuffix("$")
    if not re.search(r"[:{(*\\\[]", text):
        # Without these characters, a question mark begins a query and is not part of a pattern.
        text = without_dot_segments(unquote(re.sub(r"[?#].*", "", f"/{text.lstrip('/')}")))
    segments = _split(f"/{text.lstrip('/')}")
    if _ALL_THE_REST.fullmatch(segments[-1]):
        segments[-1] = "**"
    elif prefix := _PREFIX.fullmatch(segments[-1]):
        segments[-1:] = [prefix[1], "**"]
    return "/".join(segment if segment == "**" else _segment(segment) for segment in segments)


def _split(text: str) -> list[str]:
    # Slashes within brackets do not separate segments.
    return re.split(r"/(?![^(\[{<]*[)\]}>])", text)


def _segment(segment: str) -> str:
    found = _VARIABLE.fullmatch(segment)
    if found is not None:
        names = [name for key, name in found.groupdict().items() if name and key not in ("star", "class")]
        return f"{{{names[0] if names else 'name'}}}"
    if "**" not in segment and not SEGMENT.fullmatch(segment) and _is_variable(segment):
        words = re.findall(r"\w+", segment)
        return f"{{{words[0] if len(words) == 1 and '*' not in segment else 'name'}}}"
    return re.sub(r"\\(\W)", r"\1", segment)
