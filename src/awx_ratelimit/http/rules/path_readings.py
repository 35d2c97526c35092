"""The readings of a path: every path that an application may route it as.

Frameworks and servers read the same path in different ways. If rules looked at one reading alone, a client could avoid
them with a path that means something else to the framework. So a request is charged by its most expensive reading, and
it is exempt only if every reading is exempt. Some paths are never exempt; see `readings`.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import unquote, urlparse

#: Headers from which a server, a proxy or a middleware may take the mount prefix of an app.
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
#: An unusual path that is longer may mean anything. This bounds the work for one request.
_MAX_UNUSUAL_LENGTH = 2048
#: A sent path with an escaped slash that is longer may mean anything, because decoding it takes time.
_MAX_SENT_BYTES = 8_192
_MAX_PREFIX_BYTES = 512
#: A slash that was sent as ``%2F``, in a path whose other escapes are decoded. No rule has this private character, and
#: it is part of a segment.
_KEPT_SLASH = "\ue02f"
_SPACES_AND_SLASHES = " \t/"

_SLASHES = re.compile(r"//+")
_PARAMETERS = re.compile(r";[^/]*")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_VIEW = re.compile(r"/@@")
#: Matches paths that every framework reads the same way, and that `normalized` returns unchanged. Every new path is
#: checked, and this expression was the fastest of those that were measured.
is_ordinary = re.compile(r"(?:/[A-Za-z0-9_~!$&'()*+,:= -][A-Za-z0-9_~!$&'()*+,:= .@-]*+)++").fullmatch
_DOT_SEGMENT = re.compile(r"(?:^|/)\.{1,2}(?:/|$)")
#: Finds the characters that give a path with a leading slash more than one reading.
_unusual = re.compile(r"[\x00-\x1f\x7f;#%\\\ufffd\ue02f]|/[.@]").search
#: Finds escapes that remain after a server has decoded the path: ``.``, ``/``, ``\``, ``;``, ``%`` and NUL.
_escaped_slash = re.compile(rb"%2f", re.IGNORECASE)
_escaped_again = re.compile(r"%(?:2e|2f|5c|3b|25|00)", re.IGNORECASE).search


class Readings(NamedTuple):
    """All readings of a path, beginning with the path as it was sent. `paths` None: too many, it may mean anything."""

    can_be_exempt: bool
    paths: tuple[str, ...] | None


def normalized(path: str) -> str:
    """`path` without doubled slashes, trailing slashes and trailing newlines, which frameworks treat alike."""
    if "//" not in path and path[-1:] not in ("/", "\n"):
        return path
    return _SLASHES.sub("/", path).rstrip("/\n") or "/"


def kept_slashes(sent: bytes, path: str) -> str | None:
    """`sent`, the path before decoding, as frameworks read it that route on it: an escaped slash ends no segment.

    None if it has no escaped slash; `path`, which may then mean anything, if it is too long.
    """
    kept, count = _escaped_slash.subn(_KEPT_SLASH.encode(), sent[:_MAX_SENT_BYTES].partition(b"?")[0])
    if len(sent) > _MAX_SENT_BYTES:
        return path
    return unquote(kept.decode("utf-8", "replace")) if count else None


def readings(path: str, inner_path: str | None = None) -> Readings:
    r"""The readings of `path`, and of `inner_path` where the application may see that instead.

    These paths are never exempt: paths without a leading slash; paths with a ``.`` or ``..`` segment in any spelling, a
    backslash, a control character, bytes that are not UTF-8, or an escape that must be decoded twice; and paths in
    which the mount prefix occurs again.
    """
    if inner_path is None and path[:1] == "/" and not _unusual(path):
        return Readings(True, (path,))
    if len(path) > _MAX_UNUSUAL_LENGTH:
        return Readings(False, None)
    starts = [path] if inner_path is None else [path, *_under_prefix(path, inner_path)]
    found = _all_readings(starts)
    if found is None:
        return Readings(False, None)
    return Readings(not _prefix_occurs_again(path, inner_path) and not any(map(_cannot_be_exempt, found)), found)


def without_prefixes(paths: Iterable[str], prefixes: Iterable[bytes]) -> list[str] | None:
    """The rest of `paths` after removing each prefix in the header values `prefixes`. None: there are too many."""
    sent = list(prefixes)
    if sum(map(len, sent)) > _MAX_PREFIX_BYTES:
        return None
    values = [prefix.decode("utf-8", "replace") for prefix in sent]
    texts = {each for value in values for text in (value, unquote(value)) for each in (text, *text.split(","))}
    trimmed = {text.lstrip(_SPACES_AND_SLASHES) for text in texts}
    items = {item for text in trimmed for item in (text.rstrip(_SPACES_AND_SLASHES), text.rstrip("/")) if item}
    found: dict[str, None] = {}
    # Several middlewares may each remove a prefix, so the rests are searched again.
    left = [path.lstrip(_SPACES_AND_SLASHES) for path in paths]
    while left and len(found) <= _MAX_READINGS:
        whole = left.pop()
        cut = {whole[len(item) :] or "/" for item in items if f"{whole}/".startswith(f"{item}/")} - found.keys()
        found.update(dict.fromkeys(cut))
        left.extend(path.lstrip(_SPACES_AND_SLASHES) for path in cut)
    return list(found) if len(found) <= _MAX_READINGS else None


def _cannot_be_exempt(path: str) -> bool:
    return bool(
        path[:1] != "/"
        or "\\" in path
        or "\ufffd" in path
        or _CONTROLS.search(path)
        or _DOT_SEGMENT.search(path)
        or _escaped_again(path)
    )


def _prefix_occurs_again(path: str, inner_path: str | None) -> bool:
    """Whether the mount prefix occurs again in the inner path."""
    prefix = _prefix_of(path, inner_path) if inner_path else ""
    return prefix.strip("/") != "" and prefix in (inner_path or "")


def _prefix_of(path: str, inner_path: str) -> str:
    return path.removesuffix(inner_path.replace(_KEPT_SLASH, "/"))


def _under_prefix(path: str, inner_path: str) -> Iterator[str]:
    """The readings of a path under a mount prefix. Some frameworks remove the prefix wherever it first occurs."""
    prefix = _prefix_of(path, inner_path).rstrip("/")
    for inner in (inner_path, *_with_leading_slash(inner_path)):
        yield inner
        yield prefix + inner
        if prefix and prefix in inner:
            cut = f"/{inner.split(prefix, 1)[1].lstrip('/')}"
            yield cut
            yield prefix + cut


def _all_readings(starts: Iterable[str]) -> tuple[str, ...] | None:
    """`starts` and every path that the changes below produce from them; None if there are too many."""
    found = dict.fromkeys(starts)
    for change in _CHANGES:
        for path in list(found):
            found.update(dict.fromkeys(change(path)))
        if len(found) > _MAX_READINGS:
            return None
    return tuple(found)


def _with_leading_slash(path: str) -> Iterator[str]:
    """Paths of a target in absolute form (``http://host/path``), or of one without its leading slash."""
    if path[:1] == "/":
        return
    # Frameworks that parse targets route none that cannot be parsed.
    with suppress(ValueError):
        yield f"/{urlparse(path).path.lstrip('/')}"
    yield f"/{path}"
    for after in (path, path.partition("://")[2]):
        if "/" in after:
            yield after[after.find("/") :]


#: Each returns the readings of one kind of framework or server. A path that it does not change stays as it is.
_CHANGES: tuple[Callable[[str], Iterable[str]], ...] = (
    _with_leading_slash,
    lambda path: [path.replace(_KEPT_SLASH, "/")],
    lambda path: [unquote(path)],
    # Some frameworks decode with ``errors="ignore"``.
    lambda path: [path.replace("\ufffd", "")],
    lambda path: [_CONTROLS.sub("", path), path.partition("\0")[0] or "/"],
    lambda path: [path.replace("\\", "/")],
    lambda path: [_PARAMETERS.sub("", path)],
    # Sanic reads a fragment, which no client should send.
    lambda path: [path.partition("#")[0] or "/"],
    lambda path: map(without_dot_segments, (_SLASHES.sub("/", path), path)) if _DOT_SEGMENT.search(path) else (),
    # Pyramid's traversal reads ``@@name`` as the view ``name``.
    lambda path: [_VIEW.sub("/", path)],
)


def without_dot_segments(path: str) -> str:
    """`path` without dot segments (RFC 3986, section 5.2.4)."""
    kept: list[str] = []
    for segment in path.split("/")[1:]:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    return "/" + "/".join(kept)
