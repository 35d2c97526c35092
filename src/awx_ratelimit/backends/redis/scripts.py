"""The Lua scripts by which Redis decides, as they are shipped: each the shared text it needs, then its own.

A server at its `maxmemory` runs those that give something back, or keep alive what is there: slots neither leak nor
lapse. Claims it refuses.
"""

from hashlib import sha1
from importlib.resources import files
from typing import NamedTuple


class Script(NamedTuple):
    """What a server is asked to run: by `sha` (EVALSHA), and where it does not know that, by `text`."""

    name: str
    text: str
    sha: str


_ALLOWED_AT_MAXMEMORY = "#!lua flags=allow-oom\n"


def _script(name: str, *shared: str, first: str = "") -> Script:
    folder = files(__package__) / "lua"
    text = first + "\n".join(folder.joinpath(f"{part}.lua").read_text("utf-8") for part in (*shared, name))
    return Script(name, text, sha1(text.encode(), usedforsecurity=False).hexdigest())


ACQUIRE = _script("acquire", "state", "limits")
#: The same for calls without a claim.
RELEASE = _script("acquire", "state", "limits", first=_ALLOWED_AT_MAXMEMORY)
RENEW = _script("renew", "state", first=_ALLOWED_AT_MAXMEMORY)
HEAL = _script("heal", "state", "limits")
REFUND = _script("refund", "state", "limits", first=_ALLOWED_AT_MAXMEMORY)
RESET = _script("reset", "state", first=_ALLOWED_AT_MAXMEMORY)
