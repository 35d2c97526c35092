"""``manage.py awx_ratelimit check``, ``show`` and ``reset``: the limits of the project, by its settings."""

from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from awx_ratelimit.adapters.django.configuration import Configuration, configuration
from awx_ratelimit.adapters.django.trial import tried
from awx_ratelimit.core import durations
from awx_ratelimit.core.budget import ACCOUNT_SCOPE, Budget
from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.usage import Usage
from awx_ratelimit.core.validation import escape_unprintable
from awx_ratelimit.errors import AwxRateLimitError, BackendUnavailable
from awx_ratelimit.http.known_callers import actor_name, key_service_of, known_account, known_caller, knows
from awx_ratelimit.http.plan_listing import PlanListing
from awx_ratelimit.http.resetting import nothing_to_reset, reset_usage, usage_reset
from awx_ratelimit.http.subject_usage import (
    account_budget,
    budget_in,
    budget_usages,
    current_usages,
    note_if_unused,
    note_if_unused_account,
    note_of_no_shared_limits,
    note_of_own_identifier,
    shared_limits,
)
from awx_ratelimit.keys.validation import refuse_key
from awx_ratelimit.limiter_sync import Limiter

_SHOW: Final = "manage.py awx_ratelimit show"


class Command(BaseCommand):
    """Uses the backend and the plans of AWX_RATELIMIT. Limits in memory exist only in the processes of the server."""

    help = "Check the rate limits of this project, show what a subject has left, or reset it."
    requires_system_checks: list[str] = []  # noqa: RUF012  # Django's name; `check` prints the same error

    def add_arguments(self, parser: ArgumentParser) -> None:
        """One subcommand is required."""
        commands = parser.add_subparsers(dest="action", required=True)
        commands.add_parser("check", help="Print the plans and the state of the backend.")
        show = commands.add_parser("show", help="Print what a subject has left. It does not count as a request.")
        show.add_argument("--plan", help="Plan of the subject. Default: the one that it has, or the default plan.")
        reset = commands.add_parser("reset", help="Reset the usage of a subject. Requests in flight stay counted.")
        for one in (show, reset):
            one.add_argument("subject", help="Subject of the caller, such as user_7 or key_1; or see --scope.")
            one.add_argument(
                "--scope",
                help="Only the limits in this scope: the budget of a rule; `account` for what the keys of an account "
                "share, where the subject is the account; or `service`, for the subject `service`.",
            )

    def handle(
        self, *_: Any, action: str, subject: str = "", plan: str | None = None, scope: str | None = None, **__: Any
    ) -> None:
        """Run one subcommand. Every error is a CommandError that says what to do."""
        try:
            found = configuration()
            if action == "check":
                self._check(found)
                return
            if not subject:
                raise CommandError("subject: expected a subject such as user_7, got an empty string")
            refuse_key(subject, "subject", remedy="write the subject that your app gives the caller, such as user_7")
            if action == "show" and scope == ACCOUNT_SCOPE:
                self._show_account(found, subject, plan)
            elif action == "show":
                self._show(found, subject, plan, scope)
            else:
                self._reset(found, subject, scope)
        except BackendUnavailable as error:
            raise CommandError(f"the backend is unavailable: {error}") from error
        except (ImproperlyConfigured, AwxRateLimitError) as error:
            raise CommandError(str(error)) from error

    def _check(self, found: Configuration) -> None:
        with tried(found) as opened:
            for line in PlanListing.of(found.plans, found.parts).lines():
                self._print(line)
            health = opened.limiter.health()
        self._print(f"backend {health['backend']}: {health['state']}")
        if health["state"] != "ok":
            raise CommandError(f"the backend does not work: {health['state']}")

    def _reset(self, found: Configuration, subject: str, scope: str | None) -> None:
        with found.opened_to_look() as limiter:
            keys = key_service_of(found.parts)
            done = reset_usage(partial(limiter.reset, scope=scope), subject, scope, keys=keys, actor=actor_name())
        if done.was_counted:
            self._print(usage_reset(subject, done.counted))
            return
        is_known = knows(found.parts, subject)
        said = nothing_to_reset(done.counted, scope, is_known=is_known)
        if not is_known:
            raise CommandError(said)
        self._print(said)

    def _show(self, found: Configuration, subject: str, named_plan: str | None, scope: str | None) -> None:
        known = _known(found, subject, named_plan)
        caller = _with_plan(known or Caller(subject), named_plan)
        if scope is None:
            self._note_own_identifier(found, known)
        usages_in = _look(found, caller, scope, has_plan=named_plan is not None)
        with found.opened_to_look() as limiter:
            usages = usages_in(limiter)
        self._print_usages(usages)
        for note in note_if_unused(caller.subject, usages, scope, command=_SHOW):
            self._note(note)

    def _show_account(self, found: Configuration, name: str, named_plan: str | None) -> None:
        # A name of no known caller is that of the account.
        known = _known(found, name, named_plan) or known_account(found.parts, name)
        caller = _with_plan(known or Caller(name, account=name), named_plan)
        self._note_own_identifier(found, known)
        account, plan = caller.account or caller.subject, found.plans.resolve(caller)
        budget = account_budget(caller, plan)
        if budget is None:
            self._note(note_of_no_shared_limits(account, plan, command=_SHOW))
            return
        with found.opened_to_look() as limiter:
            usages = budget_usages(limiter, budget)
        self._print_usages(usages)
        for note in note_if_unused_account(account, usages, command=_SHOW):
            self._note(note)

    def _print_usages(self, usages: Sequence[Usage]) -> None:
        for usage in usages:
            wait = f", full again in {durations.wait(usage.reset_after_ms)}" if usage.reset_after_ms else ""
            self._print(f"{usage.limit}: {usage.remaining} of {usage.capacity} left{wait}")

    def _note_own_identifier(self, found: Configuration, known: Caller | None) -> None:
        remedy = "awx-ratelimit usage - --plans PROJECT.wsgi:application prints them"
        for note in note_of_own_identifier(found.parts, is_known=known is not None, remedy=remedy):
            self._note(note)

    def _note(self, text: str) -> None:
        self.stderr.write(escape_unprintable(text))

    def _print(self, text: str) -> None:
        self.stdout.write(escape_unprintable(text))


def _known(found: Configuration, subject: str, plan: str | None) -> Caller | None:
    """The caller that `subject` is in the project, if that is known. With `plan`, its plan need not be found."""
    try:
        return known_caller(found.parts, subject, has_plan=plan is not None)
    except ValueError as error:
        raise CommandError(str(error)) from error


def _with_plan(caller: Caller, plan: str | None) -> Caller:
    return caller if plan is None else replace(caller, plan=plan)


def _look(
    found: Configuration, caller: Caller, scope: str | None, *, has_plan: bool
) -> Callable[[Limiter], Sequence[Usage]]:
    """A look at the limits of `caller`, or at those in `scope`, which a rule has unless the plan was named."""
    if scope is None:
        plan = found.plans.resolve(caller)
        return lambda limiter: current_usages(limiter, caller.subject, plan, shared_limits(caller, plan))
    if has_plan:
        budget = Budget(caller.subject, found.plans.resolve(Caller(caller.subject, caller.plan)), scope)
    else:
        budget = budget_in(scope, found.plans, found.parts, caller)
    return lambda limiter: budget_usages(limiter, budget)
