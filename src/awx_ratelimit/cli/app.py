"""The command-line application. An error is one line that says what to do, and exit status 2."""

import os
import sys
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any

import typer
import typer.main

from awx_ratelimit.cli import account_commands, key_commands, metrics_commands, output, server_commands, usage_commands
from awx_ratelimit.cli.explain_command import explain
from awx_ratelimit.cli.installed import installed
from awx_ratelimit.cli.loadtest_command import loadtest, loadtest_worker
from awx_ratelimit.cli.scan_command import scan
from awx_ratelimit.errors import AwxRateLimitError, InvalidKeyRequest
from awx_ratelimit.keys.scanner import FINDER
from awx_ratelimit.runtime.documentation import page
from awx_ratelimit.runtime.looking import looking

ERROR = 2
_INTERRUPTED = 130

app = typer.Typer(
    help="Manage API keys and accounts, inspect rate limits, and audit gateways.",
    epilog=f"Documentation: {page('reference/cli')}",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(installed())
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """The options of the command itself."""


app.add_typer(key_commands.keys, name="keys")
app.add_typer(account_commands.accounts, name="accounts")
app.command()(scan)
app.add_typer(server_commands.plans, name="plans")
app.add_typer(metrics_commands.metrics, name="metrics")
app.add_typer(usage_commands.usage, name="usage")
for command in (explain, server_commands.reset, server_commands.doctor):
    app.command()(command)
app.command()(loadtest)
app.command()(loadtest_worker)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status. Errors are printed as one line on stderr."""
    with looking(), output.one_run():
        return _run(arguments)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        status = _command()(args=arguments and list(arguments), prog_name="awx-ratelimit", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader closed the pipe. Without this, the interpreter prints another error when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ERROR
    except typer.Abort:
        return _INTERRUPTED
    except typer.TyperException as error:
        return _failed(_said_by(error))
    except (AwxRateLimitError, ImportError, OSError, ValueError) as error:
        # A wrong field needs no page: its error says what is allowed.
        code = "" if isinstance(error, InvalidKeyRequest) else getattr(error, "code", "")
        return _failed(f"{error}. See {page('errors', code)}" if code else str(error))
    return status if isinstance(status, int) else 0


@cache
def _command() -> Any:
    """All commands. A program that runs many of them, such as a test, builds their parsers once."""
    return typer.main.get_command(app)


def _said_by(error: typer.TyperException) -> str:
    said = str(getattr(error, "format_message", error.__str__)())
    context = getattr(error, "ctx", None)
    # The message about a wrong value says what is allowed. One about a missing or an unknown name does not.
    if context is None or type(error).__name__ == "BadParameter":
        return said
    return f"{said.removesuffix('.')}{'' if said.endswith('?') else '.'} See `{context.command_path} --help`"


def _failed(message: str) -> int:
    # Parsers repeat unknown arguments. One may be a key in the wrong place, and the output a CI log.
    output.say(f"error: {FINDER.redact(' '.join(message.split()))}")
    return ERROR
