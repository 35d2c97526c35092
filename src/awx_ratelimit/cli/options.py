"""Options that several commands have, and commands that take theirs as one object."""

import inspect
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Annotated, Any

import typer


def _only_format(context: typer.Context, value: bool) -> bool:
    # The option that comes second finds the first one.
    if value and (context.params.get("csv") or context.params.get("json")):
        raise typer.BadParameter("expected one of --csv and --json, got both", param_hint="--csv")
    return value


Json = Annotated[bool, typer.Option("--json", help="Print JSON.", callback=_only_format)]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV, for a spreadsheet.", callback=_only_format)]
#: The plans whose limits a command shows or audits.
AppPlans = Annotated[
    str | None,
    typer.Option(
        envvar="AWX_PLANS",
        help="Plan table (TOML), or what has plans in code, as module:attribute: an app with its callers, or a Plan. "
        "Default: the built-in plans.",
    ),
]


def with_options(options: type[Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the fields of the dataclass `options` as its options. It gets them as its argument `options`."""
    names = [field.name for field in fields(options)]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def with_one_object(**values: Any) -> Any:
            given = options(**{name: values.pop(name) for name in names})
            return command(**values, options=given)

        own = [each for each in inspect.signature(command).parameters.values() if each.name != "options"]
        # Typer reads the options from the signature.
        parameters = [*own, *inspect.signature(options).parameters.values()]
        with_one_object.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return with_one_object

    return decorate
