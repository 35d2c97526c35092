"""A Griffe extension: the parameters after `_misplaced` are shown as keyword-only, as `with_keywords` shows them."""

from typing import Any

from griffe import Extension, Function, ParameterKind, Parameters


class Keywords(Extension):
    """Changes the signatures of methods such as `Limiter.acquire`."""

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
