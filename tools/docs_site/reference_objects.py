"""A Griffe extension: docstrings and signatures as the reference shows them.

A page that a docstring names, such as docs/queues.md, is a link. The parameters after `_misplaced` are keyword-only, as
`with_keywords` shows them.
"""

import re
from typing import Any

from griffe import Extension, Function, Object, ParameterKind, Parameters

#: From a page in docs/reference/.
_LINK = r"[docs/\1.md](../\1.md)"


class Reference(Extension):
    """Changes what is shown of the package."""

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
