"""``manage.py awx_ratelimit check``, ``show`` and ``reset``: the limits of the project, by its settings."""

from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from awx_ratelimit.adapters.django.configuration import Configuration, configuration
from awx_ratelimit.adapters.django.trial import tried
from awx_ratelimit.core import durations
from awx_ratelimit.core.budget import Budget
from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.usage import Usage
from awx_ratelimit.core.validation import escape_unprintable
from awx_ratelimit.errors import AwxRateLimitError, BackendUnavailable
from awx_ratelimit.http.known_callers import actor_name, key_service_of, known_caller, knows
from awx_ratelimit.http.plan_listing import PlanListing
from awx_ratelimit.http.resetting import nothing_to_reset, reset_usage, usage_reset
from awx_ratelimit.http.subject_usage import (
    budget_usages,
    current_usages,
    note_if_unused,
    rule_budget,
    shared_limits,
)
from awx_ratelimit.keys.validation import refuse_key
from awx_ratelimit.limiter_sync import Limiter


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
            one.add_argument("subject", help="Subject of the caller, such as user_7 or key_1.")
            one.add_argument("--scope", help="Only the limits in this scope, such as the budget of a rule.")

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
            if action == "show":
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
        caller = _caller(found, subject, named_plan)
        usages_in = _look(found, caller, scope, has_plan=named_plan is not None)
        with found.opened_to_look() as limiter:
            usages = usages_in(limiter)
        for usage in usages:
            wait = f", full again in {durations.wait(usage.reset_after_ms)}" if usage.reset_after_ms else ""
            self._print(f"{usage.limit}: {usage.remaining} of {usage.capacity} left{wait}")
        for note in note_if_unused(caller.subject, usages, scope):
            self.stderr.write(escape_unprintable(note))

    def _print(self, text: str) -> None:
        self.stdout.write(escape_unprintable(text))


def _caller(found: Configuration, subject: str, plan: str | None) -> Caller:
    """The caller that `subject` is in the project. `plan` replaces its plan, which then need not be found."""
    try:
        caller = known_caller(found.parts, subject, has_plan=plan is not None) or Caller(subject)
    except ValueError as error:
        raise CommandError(str(error)) from error
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
        budget = rule_budget(found.parts, caller, scope)
    return lambda limiter: budget_usages(limiter, budget)
