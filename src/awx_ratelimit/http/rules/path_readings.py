"""What a path means to rules: the path that can be exempt, and every path that the application may route it as.

Frameworks and servers read the same path in different ways. A rule that looks at one reading alone can be dodged by a
path that means something else to the framework. So a request is charged by the dearest of all readings, and it is
exempt only if every reading is exempt. Some paths are never exempt; see `readings`.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import unquote, urlparse

#: Headers from which a server, a proxy or a middleware may take the prefix that an app is mounted under.
PREFIX_HEADERS = frozenset(
    (
        b"script-name",
        b"script_name",
        b"x-base-path",
        b"x-forwarded-path",
        b"x-forwarded-prefix",
        b"x-forwarded-script-name",
        b"x-ingress-path",
        b"x-script-name",
    )
)
_MAX_READINGS = 24
#: An unusual path that is longer may mean anything: the work for one request has a bound.
_MAX_LETTERS = 2048
_MAX_PREFIX_BYTES = 512
_AROUND = " \t/"

_SLASHES = re.compile(r"//+")
_PARAMETERS = re.compile(r";[^/]*")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_VIEW = re.compile(r"/@@")
#: A path that means the same to every framework, and is its own `plain` spelling. The fastest check of all that were
#: measured: each new path is checked.
is_ordinary = re.compile(r"(?:/[A-Za-z0-9_~!$&'()*+,:= -][A-Za-z0-9_~!$&'()*+,:= .@-]*+)++").fullmatch
_DOT_SEGMENT = re.compile(r"(?:^|/)\.{1,2}(?:/|$)")
#: What gives a path that begins with a slash more than one reading.
_unusual = re.compile(r"[\x00-\x1f\x7f;%\\\ufffd]|/[.@]").search
#: Escapes that are still there after a server has decoded the path: ``.``, ``/``, ``\``, ``;``, ``%`` and NUL.
_escaped_again = re.compile(r"%(?:2e|2f|5c|3b|25|00)", re.IGNORECASE).search


class Readings(NamedTuple):
    """`paths` are all readings, the path as it was sent first. None: there are too many, so it may mean anything."""

    can_be_exempt: bool
    paths: tuple[str, ...] | None


def plain(path: str) -> str:
    """`path` without doubled slashes, trailing slashes and trailing newlines, which frameworks do not tell apart."""
    if "//" not in path and path[-1:] not in ("/", "\n"):
        return path
    return _SLASHES.sub("/", path).rstrip("/\n") or "/"


def readings(path: str, inner_path: str | None = None) -> Readings:
    r"""The readings of `path`, and of `inner_path` where the application may see that instead.

    Never exempt are paths that do not begin with a slash, that have a ``.`` or ``..`` segment in any spelling,
    a backslash, a control character, bytes that are not UTF-8, or an escape that would have to be decoded twice; and
    paths in which the prefix occurs again.
    """
    if inner_path is None and path[:1] == "/" and not _unusual(path):
        return Readings(True, (path,))
    if len(path) > _MAX_LETTERS:
        return Readings(False, None)
    starts = [path] if inner_path is None else [path, *_under_prefix(path, inner_path)]
    found = _closed(starts)
    if found is None:
        return Readings(False, None)
    return Readings(not _occurs_again(path, inner_path) and not any(map(_never_exempt, found)), found)


def tails(paths: Iterable[str], prefixes: Iterable[bytes]) -> list[str] | None:
    """What is left of `paths` without each of the prefixes that a client has sent. None: it has sent too many."""
    sent = list(prefixes)
    if sum(map(len, sent)) > _MAX_PREFIX_BYTES:
        return None
    values = [prefix.decode("utf-8", "replace") for prefix in sent]
    texts = {each for value in values for text in (value, unquote(value)) for each in (text, *text.split(","))}
    items = {item for text in texts for item in (text.strip(_AROUND), text.lstrip(_AROUND).rstrip("/")) if item}
    found: dict[str, None] = {}
    # Several middlewares may each cut a prefix.
    left = [path.lstrip(_AROUND) for path in paths]
    while left and len(found) <= _MAX_READINGS:
        whole = left.pop()
        cut = {whole[len(item) :] or "/" for item in items if f"{whole}/".startswith(f"{item}/")} - found.keys()
        found.update(dict.fromkeys(cut))
        left.extend(path.lstrip(_AROUND) for path in cut)
    return list(found) if len(found) <= _MAX_READINGS else None


def _never_exempt(path: str) -> bool:
    return bool(
        path[:1] != "/"
        or "\\" in path
        or "\ufffd" in path
        or _CONTROLS.search(path)
        or _DOT_SEGMENT.search(path)
        or _escaped_again(path)
    )


def _occurs_again(path: str, inner_path: str | None) -> bool:
    prefix = path.removesuffix(inner_path) if inner_path else ""
    return prefix.strip("/") != "" and prefix in (inner_path or "")


def _under_prefix(path: str, inner_path: str) -> Iterator[str]:
    """Readings of a path under a prefix: some frameworks cut the prefix where it first occurs, wherever that is."""
    prefix = path.removesuffix(inner_path).rstrip("/")
    for inner in (inner_path, *_with_slash(inner_path)):
        yield inner
        yield prefix + inner
        if prefix and prefix in inner:
            cut = f"/{inner.split(prefix, 1)[1].lstrip('/')}"
            yield cut
            yield prefix + cut


def _closed(starts: Iterable[str]) -> tuple[str, ...] | None:
    """`starts` and all that the changes below make of them."""
    found = dict.fromkeys(starts)
    for change in _CHANGES:
        for path in list(found):
            found.update(dict.fromkeys(change(path)))
        if len(found) > _MAX_READINGS:
            return None
    return tuple(found)


def _with_slash(path: str) -> Iterator[str]:
    """A target in absolute form (``http://host/path``), or one without its first slash."""
    if path[:1] == "/":
        return
    # A target that cannot be parsed reaches no route of a framework that parses targets.
    with suppress(ValueError):
        yield f"/{urlparse(path).path.lstrip('/')}"
    yield f"/{path}"
    for after in (path, path.partition("://")[2]):
        if "/" in after:
            yield after[after.find("/") :]


def _decoded_again(path: str) -> Iterator[str]:
    if "%" in path:
        yield unquote(path)


def _without_broken_bytes(path: str) -> Iterator[str]:
    """Some frameworks decode with ``errors="ignore"``."""
    if "\ufffd" in path:
        yield path.replace("\ufffd", "")


def _without_controls(path: str) -> Iterator[str]:
    if _CONTROLS.search(path):
        yield _CONTROLS.sub("", path)
        yield path.partition("\0")[0] or "/"


def _with_slashes(path: str) -> Iterator[str]:
    if "\\" in path:
        yield path.replace("\\", "/")


def _without_parameters(path: str) -> Iterator[str]:
    if ";" in path:
        yield _PARAMETERS.sub("", path)


def _without_dots(path: str) -> Iterator[str]:
    if _DOT_SEGMENT.search(path):
        yield resolved(_SLASHES.sub("/", path))
        yield resolved(path)


def _without_view_marks(path: str) -> Iterator[str]:
    """Pyramid's traversal takes ``@@name`` for the view of this name."""
    if "/@@" in path:
        yield _VIEW.sub("/", path)


_CHANGES: tuple[Callable[[str], Iterator[str]], ...] = (
    _with_slash,
    _decoded_again,
    _without_broken_bytes,
    _without_controls,
    _with_slashes,
    _without_parameters,
    _without_dots,
    _without_view_marks,
)


def resolved(path: str) -> str:
    """`path` without dot segments (RFC 3986, section 5.2.4)."""
    kept: list[str] = []
    for segment in path.split("/")[1:]:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    return "/" + "/".join(kept)
