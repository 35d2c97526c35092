"""A Griffe extension: docstrings and signatures as the reference shows them.

A comment ``#: text`` above an attribute is its docstring. A page that a docstring names, such as docs/queues.md, is a
link. The parameters after `_misplaced` are keyword-only, as `with_keywords` shows them.
"""

import re
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

from griffe import Attribute, Docstring, Extension, Function, Object, ParameterKind, Parameters

#: From a page in docs/reference/.
_LINK = r"[docs/\1.md](../\1.md)"


class Reference(Extension):
    """Changes what is shown of the package."""

    def on_attribute(self, *, attr: Attribute, **_: Any) -> None:
        """Read the comment above an attribute. Show the class of what `__init__` creates, and not how it does that."""
        comment = _comment_above(attr)
        if attr.docstring is None and comment:
            attr.docstring = Docstring(comment, parent=attr)
        created = re.match(r"[A-Z]\w*(?=\()", str(attr.value))
        if created and "instance-attribute" in attr.labels:
            attr.annotation, attr.value = attr.annotation or created[0], None

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Link the pages that a docstring names."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"docs/([a-z-]+)\.md", _LINK, obj.docstring.value)

    def on_function(self, *, func: Function, **_: Any) -> None:
        """Leave `_misplaced` out of the signature."""
        names = [parameter.name for parameter in func.parameters]
        if "_misplaced" not in names:
            return
        at = names.index("_misplaced")
        before, after = [*func.parameters][:at], [*func.parameters][at + 1 :]
        for parameter in after:
            parameter.kind = ParameterKind.keyword_only
        func.parameters = Parameters(*before, *after)


def _comment_above(attr: Attribute) -> str:
    if attr.lineno is None or not isinstance(attr.filepath, Path):
        return ""
    lines = _lines(attr.filepath)[: attr.lineno - 1]
    comment = takewhile(lambda line: line.startswith("#:"), (line.strip() for line in reversed(lines)))
    return " ".join(line.removeprefix("#:").strip() for line in reversed([*comment]))


@cache
def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()
