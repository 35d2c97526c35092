"""Where the keys of a run come from, and that they go nowhere else: no report, no log, no title of a process.

A command line can be read by everybody on a machine. What came there is taken out of it before anything is done.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Final

#: One key; and several, as a list in JSON.
KEY, KEYS = "AWX_LOADTEST_KEY", "AWX_LOADTEST_KEYS"
OPTION: Final = "--key"
MASK: Final = "[key]"
#: What is shorter is a word that may stand anywhere, and no secret.
_LEAST_MASKED: Final = 8
_MAX_BYTES: Final = 1 << 20


def from_environment() -> list[str]:
    """The keys in the environment. Raises ValueError for a list that is none."""
    if KEYS in os.environ:
        try:
            keys = json.loads(os.environ[KEYS])
        except ValueError:
            keys = None
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise ValueError(f'{KEYS} is no list of keys; write it as ["...", "..."]')
        return [str(key) for key in keys]
    return [os.environ[KEY]] if os.environ.get(KEY) else []


def from_file(path: Path) -> list[str]:
    """The keys in a file, one a line; empty lines and those that begin with # are none.

    It may be a pipe, such as a secrets manager writes into. Raises ValueError for more than a megabyte.
    """
    with path.open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ValueError(f"{path} has more than {_MAX_BYTES} bytes; expected a file of keys, one a line")
    lines = (line.strip() for line in content.decode().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def checked(keys: Sequence[str]) -> list[str]:
    """The keys, each once. Raises ValueError, without the key, for one that cannot stand in a header."""
    for number, key in enumerate(keys):
        if not (key.isascii() and key.isprintable()) or key.strip() != key or not key:
            raise ValueError(f"key {number} is no key: allowed is visible ASCII")
    return list(dict.fromkeys(keys))


def masked(text: str, keys: Sequence[str]) -> str:
    """`text` without any of the keys of 8 characters or more, also as JSON writes them."""
    for key in sorted(keys, key=len, reverse=True):
        if len(key) >= _LEAST_MASKED:
            text = text.replace(key, MASK).replace(json.dumps(key)[1:-1], MASK)
    return text


def mask_of(keys: Sequence[str]) -> Callable[[str], str]:
    """`masked` with these keys, quick for texts that come again and again, as refusals do."""
    return lru_cache(4_096)(partial(masked, keys=tuple(keys)))


def taken_from(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Arguments without keys, and the keys: ``--key K`` and ``--key=K``, as often as it stands there."""
    rest, keys = list[str](), list[str]()
    words = iter(arguments)
    for word in words:
        if word == OPTION:
            keys.append(next(words, ""))
        elif word.startswith(f"{OPTION}="):
            keys.append(word.partition("=")[2])
        else:
            rest.append(word)
    return rest, [key for key in keys if key]


def hide() -> None:
    """Begin this process anew with the keys in its environment, where its command line has one.

    The environment of a process is for its own user to read alone, its command line for everybody.
    """
    rest, keys = taken_from(sys.orig_argv)
    if "loadtest" not in rest or not keys:
        return
    sys.stderr.write(f"a key on a command line can be read by others; put it into {KEY}, or a file for --keys\n")
    sys.stderr.flush()
    os.environ[KEYS] = json.dumps([*keys, *(key for key in from_environment() if key not in keys)])
    os.execv(sys.executable, [sys.executable, *rest[1:]])  # noqa: S606  # the command that was given
