"""The result of examining a server or a file: one finding for each thing that limits depend on."""

from typing import Literal, NamedTuple

Mark = Literal["ok", "warning", "wrong"]


class Finding(NamedTuple):
    """One finding. `remedy` says what to do, and is empty if there is nothing to do."""

    what: str
    mark: Mark
    said: str
    remedy: str = ""
