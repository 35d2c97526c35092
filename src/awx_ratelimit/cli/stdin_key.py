"""Reads the text of a key. It is never an argument, because other users can read command lines."""

import sys
from typing import Final

import typer

from awx_ratelimit.cli import output
from awx_ratelimit.http.identity.identifiers import MAX_KEY_BYTES
from awx_ratelimit.keys.validation import refuse_key

#: What stands for the key in the command line.
STDIN: Final = "-"


def refuse_key_argument(text: str, option: str) -> None:
    """Raise InvalidKeyRequest, which names `option`, if `text` contains a key with the default prefix.

    A command line does not say which other prefix the app has.
    """
    refuse_key(text, option, remedy=f"write {STDIN!r}, and give the key on standard input")


def key_from_stdin(option: str) -> str:
    """The key from standard input, or from a prompt that hides it on a terminal. No output has it from now on.

    Raises BadParameter, which names `option`, if there is none, or more than one line.
    """
    if sys.stdin.isatty():
        key: str = typer.prompt("API key", hide_input=True, err=True)
    else:
        key = sys.stdin.read(4 * MAX_KEY_BYTES)
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable():
        raise typer.BadParameter("expected one line with a key on standard input", param_hint=option)
    output.hide(key)
    return key
