"""``awx-ratelimit plans check``, ``reset`` and ``doctor``: inspect plan tables and backends.

A backend's URL may contain a password, so it can come from the environment (AWX_BACKEND). Without a URL, the commands
use the current user's own file on this host.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Annotated

import typer

from awx_ratelimit.backends.base import Finding
from awx_ratelimit.backends.open import examine, open_to_look, own_url
from awx_ratelimit.cli import output
from awx_ratelimit.cli.callers import StoreOfCallers, Subject, named_subject
from awx_ratelimit.cli.installed import installed
from awx_ratelimit.cli.key_stores import open_service
from awx_ratelimit.cli.options import Json
from awx_ratelimit.cli.plan_sources import plan_source
from awx_ratelimit.errors import BackendMisconfigured, BackendUnavailable, StateDamaged
from awx_ratelimit.http.known_callers import actor_name, is_stored
from awx_ratelimit.http.plan_listing import COLUMNS, PlanListing
from awx_ratelimit.http.resetting import nothing_to_reset, reset_usage, usage_reset
from awx_ratelimit.limiter_sync import Limiter

FOUND = 1

plans = typer.Typer(help="Work with plan tables.", rich_markup_mode=None)

_BACKEND_HELP = (
    "Backend: host:///path/to/file, redis://host:6379, redis+unix:///path or postgresql://user@host/database. "
    "Default: your own file on this host."
)
Backend = Annotated[str | None, typer.Option(envvar="AWX_BACKEND", help=_BACKEND_HELP)]
BackendUrl = Annotated[str | None, typer.Argument(envvar="AWX_BACKEND", help=_BACKEND_HELP)]
PlanTableName = Annotated[
    str, typer.Argument(metavar="FILE", help="Plan table (TOML), or the app that has it, as module:attribute.")
]
Scope = Annotated[
    str | None,
    typer.Option(help="Reset only this scope, such as `account` for the limits that an account's keys share."),
]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with status 1 for warnings, too.")]
_NO_URL = Finding(
    "backend",
    "warning",
    "no URL was given, so this is your own file",
    "name the backend of your app, as in: awx-ratelimit doctor redis://host:6379, or set AWX_BACKEND",
)


@plans.callback()
def _plans() -> None:
    """Typer needs a callback to keep `check` a subcommand, because it is the only one."""


@plans.command()
def check(file: PlanTableName, *, json: Json = False) -> None:
    """Check a plan table, and print the limits of its plans, of their accounts and of the service.

    For an app, print also the plan of requests without a key, plans that only its code has, and the budgets of rules.
    """
    table, gate = plan_source(file, "FILE")
    listed = PlanListing.of(table, None if gate is None else gate.parts)
    if json:
        output.print_json(listed.fields())
    else:
        output.print_table(COLUMNS, listed.rows())


def reset(subject: Subject, *, backend: Backend = None, scope: Scope = None, database: StoreOfCallers = None) -> int:
    """Reset the usage of a subject, in all its scopes or in one. Requests in flight stay counted.

    If nothing is counted for the subject, a line on stderr says so, and the exit status is 1: its name may be wrong.
    With a --database that has the key or the account, the exit status is 0 all the same.

    To reset what all keys of an account share, pass the account as the subject, with --scope account. With --database,
    the subject may be the ID of a key: a rotated key and its successors share their usage. The audit trail of the key
    store then says who reset a key or an account.
    """
    subject = named_subject(subject, database)
    with nullcontext() if database is None else open_service(database) as keys:
        with limiter_at(backend) as limiter:
            done = reset_usage(partial(limiter.reset, scope=scope), subject, scope, keys=keys, actor=actor_name())
        is_known = done.was_counted or (keys is not None and is_stored(keys, subject))
    said = usage_reset(subject, done.counted)
    output.say(said if done.was_counted else nothing_to_reset(done.counted, scope, is_known=is_known))
    return 0 if is_known else FOUND


def doctor(url: BackendUrl = None, *, strict: Strict = False, json: Json = False) -> int:
    """Check a backend and print how to fix each problem.

    The exit status is 1 if something is wrong. Warnings are about what works but may forget limits or be slow: with
    --strict, the exit status is 1 for them, too.

    A file that no app has created yet counts as a problem, because its name may be misspelled.
    """
    findings = [Finding("library", "ok", installed()), *([] if url else [_NO_URL]), *examine(url or own_url())]
    if json:
        output.print_json({"findings": [one._asdict() for one in findings]})
    else:
        output.print_table(("check", "result", "details", "fix"), findings)
    problems = ("wrong", "warning") if strict else ("wrong",)
    return FOUND if any(one.mark in problems for one in findings) else 0


@contextmanager
def limiter_at(url: str | None) -> Iterator[Limiter]:
    """A limiter on the backend at `url`, by default the user's own file. It is closed at the end of the block."""
    limiter = Limiter(open_to_look(url or own_url(), "with --backend, or in AWX_BACKEND"))
    try:
        yield limiter
    except (BackendMisconfigured, StateDamaged):
        raise
    except BackendUnavailable as error:
        remedy = "look for the cause with: awx-ratelimit doctor URL"
        raise BackendUnavailable(f"the backend does not answer: {str(error).rstrip('.')}; {remedy}") from error
    finally:
        limiter.close()
