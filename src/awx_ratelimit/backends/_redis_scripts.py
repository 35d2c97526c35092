"""The Lua scripts by which Redis decides, as they are shipped: each the shared text it needs, then its own."""

from hashlib import sha1
from importlib.resources import files
from typing import NamedTuple


class Script(NamedTuple):
    """What a server is asked to run: by `sha` (EVALSHA), and where it does not know that, by `text`."""

    name: str
    text: str
    sha: str


def _script(name: str, *shared: str) -> Script:
    folder = files(__package__)
    text = "\n".join(folder.joinpath(f"{part}.lua").read_text("utf-8") for part in (*shared, name))
    return Script(name, text, sha1(text.encode(), usedforsecurity=False).hexdigest())


ACQUIRE = _script("acquire", "state", "limits")
RENEW = _script("renew", "state")
HEAL = _script("heal", "state", "limits")
REFUND = _script("refund", "state", "limits")
RESET = _script("reset", "state")
