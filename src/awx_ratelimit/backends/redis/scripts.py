"""The Lua scripts that run on the server, and the commands that call them.

At its `maxmemory` limit, a server still runs the scripts that give something back or renew a lease, so slots neither
leak nor lapse. It refuses claims. The layouts are documented at the top of each script; see `plan_encoding` for plans.
"""

from collections.abc import Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Any, NamedTuple


class Script(NamedTuple):
    """A script: `sha` is what EVALSHA takes, `text` what EVAL takes."""

    name: str
    text: str
    sha: str


class Call(NamedTuple):
    """One call of a script. On a cluster, all its keys must share a slot."""

    script: Script
    keys: Sequence[bytes]
    args: Sequence[bytes]


_ALLOW_OOM = "#!lua flags=allow-oom\n"


def _script(name: str, *shared: str, rare: Sequence[str] = (), flags: str = "") -> Script:
    """A script from files. Those in `rare` become a function that is called for few claims: closures cost time."""
    folder = files(__package__) / "lua"
    parts = [folder.joinpath(f"{part}.lua").read_text("utf-8") for part in (*shared, *rare, name)]
    if rare:
        parts.insert(len(shared), "local function rare_functions()")
        parts.insert(-1, "end")
    text = flags + "\n".join(parts)
    return Script(name, text, sha1(text.encode(), usedforsecurity=False).hexdigest())


ACQUIRE = _script("acquire", "state", rare=("limits", "open", "acquire_rare"))
#: The same script, for calls that only release leases.
RELEASE = _script("acquire", "state", rare=("limits", "open", "acquire_rare"), flags=_ALLOW_OOM)
JOINT = _script("joint", "state", rare=("limits", "open", "open_rows", "periods", "joint_rare"))
RENEW = _script("renew", "state", flags=_ALLOW_OOM)
HEAL = _script("heal", "state", "limits", "open")
SETTLE = _script("settle", "state", "limits", "open", "open_rows", "periods", flags=_ALLOW_OOM)
RESET = _script("reset", "state", "limits", flags=_ALLOW_OOM)


def evalsha(call: Call) -> tuple[Any, ...]:
    """The EVALSHA command: runs a script that the server already has."""
    return "EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args


def eval_all(calls: Sequence[Call]) -> "list[tuple[Any, ...]]":
    """EVAL commands: each call sends the text of its script."""
    return [("EVAL", call.script.text, len(call.keys), *call.keys, *call.args) for call in calls]


def eval_first(calls: Sequence[Call]) -> "list[tuple[Any, ...]]":
    """EVAL for the first call of each script, EVALSHA for the calls after it."""
    seen: set[str] = set()
    commands: list[tuple[Any, ...]] = []
    for call in calls:
        commands += [evalsha(call)] if call.script.sha in seen else eval_all([call])
        seen.add(call.script.sha)
    return commands
