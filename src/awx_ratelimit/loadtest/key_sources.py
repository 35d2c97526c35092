"""Where the keys of a run come from, and how they stay out of reports, logs and process titles.

Every user of a machine can read command lines, so keys are removed from the command line before anything else happens.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

#: Environment variables with one key, and with a JSON list of keys.
KEY, KEYS = "AWX_LOADTEST_KEY", "AWX_LOADTEST_KEYS"
OPTION: Final = "--key"
MASK: Final = "[key]"
#: Shorter keys are not masked: they are common words rather than secrets.
_MIN_MASKED: Final = 8
_MAX_BYTES: Final = 1 << 20


def from_environment() -> list[str]:
    """The keys in the environment. Raises ValueError if the list is malformed."""
    if KEYS in os.environ:
        try:
            keys = json.loads(os.environ[KEYS])
        except ValueError:
            keys = None
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise ValueError(f'{KEYS}: expected a JSON list of keys, such as ["...", "..."]')
        return [str(key) for key in keys]
    return [os.environ[KEY]] if os.environ.get(KEY) else []


def from_file(path: Path) -> list[str]:
    """The keys in a file, one per line. Empty lines and lines that begin with # are ignored.

    The file may be a pipe, for example from a secrets manager. Raises ValueError for more than one megabyte.
    """
    with path.open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ValueError(f"{path}: expected at most {_MAX_BYTES} bytes of keys, one per line; the file is larger")
    lines = (line.strip() for line in content.decode().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def validated(keys: Sequence[str]) -> list[str]:
    """The keys without duplicates. Raises ValueError if a header cannot carry a key; the error does not contain it."""
    for number, key in enumerate(keys):
        if not (key.isascii() and key.isprintable()) or key.strip() != key or not key:
            raise ValueError(f"key {number}: expected visible ASCII without spaces around it")
    return list(dict.fromkeys(keys))


def masker(keys: Sequence[str]) -> Callable[[str], str]:
    """A function that replaces every key of 8 or more characters in a text by ``[key]``, also as JSON escapes it."""
    secrets = [key for key in sorted(keys, key=len, reverse=True) if len(key) >= _MIN_MASKED]

    # Cached, because refusals repeat the same texts.
    @lru_cache(4_096)
    def mask(text: str) -> str:
        for key in secrets:
            text = text.replace(key, MASK).replace(json.dumps(key)[1:-1], MASK)
        return text

    return mask


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split arguments into those without keys and the values of every ``--key K`` and ``--key=K``."""
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


def hide_from_command_line() -> None:
    """Restart this process with its keys in the environment if they are on its command line.

    Only its own user can read the environment of a process; everybody can read its command line.
    """
    rest, keys = split_arguments(sys.orig_argv)
    if "loadtest" not in rest or not keys:
        return
    sys.stderr.write(f"other users can read a key on a command line; put it into {KEY}, or into a file for --keys\n")
    sys.stderr.flush()
    os.environ[KEYS] = json.dumps([*keys, *(key for key in from_environment() if key not in keys)])
    os.execv(sys.executable, [sys.executable, *rest[1:]])  # noqa: S606  # the command that the user gave
