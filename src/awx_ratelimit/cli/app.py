"""The commands put together, and what becomes of an error: one line that says what to do, and status 2."""

import os
import sys
from collections.abc import Sequence

import typer

from awx_ratelimit.cli import key_commands, output, server_commands
from awx_ratelimit.cli.loadtest_command import loadtest, loadtest_worker
from awx_ratelimit.cli.scan_command import scan
from awx_ratelimit.errors import AwxRateLimitError
from awx_ratelimit.keys.scanner import FINDER

ERROR = 2
_INTERRUPTED = 130

app = typer.Typer(
    help="API keys from the first day to the last, and gateways that are held to their plans.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(key_commands.keys, name="keys")
app.command()(scan)
app.add_typer(server_commands.plans, name="plans")
for command in (server_commands.usage, server_commands.reset, server_commands.doctor):
    app.command()(command)
app.command()(loadtest)
app.command()(loadtest_worker)


def run(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command; its exit status. What goes wrong is one line on stderr."""
    try:
        status = app(args=arguments and list(arguments), prog_name="awx-ratelimit", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has had enough; the interpreter would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ERROR
    except typer.Abort:
        return _INTERRUPTED
    except typer.TyperException as error:
        return _failed(str(getattr(error, "format_message", error.__str__)()))
    except (AwxRateLimitError, ImportError, OSError, ValueError) as error:
        return _failed(str(error))
    return status if isinstance(status, int) else 0


def _failed(what: str) -> int:
    # Parsers tell a word back that they do not know; it may be a key in the wrong place, and this a log of CI.
    output.say(f"error: {FINDER.redact(' '.join(what.split()))}")
    return ERROR
