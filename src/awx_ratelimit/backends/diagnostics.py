"""What is found when a server is examined: each thing that a limit depends on, how it is, and what is to be done."""

from typing import Literal, NamedTuple

Mark = Literal["ok", "warning", "wrong"]


class Finding(NamedTuple):
    """One thing. `remedy` is empty where nothing is to be done."""

    what: str
    mark: Mark
    said: str
    remedy: str = ""
