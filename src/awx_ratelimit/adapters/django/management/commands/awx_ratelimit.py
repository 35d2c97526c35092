"""``manage.py awx_ratelimit check``, ``show`` and ``reset``: the limits of the project, by its settings."""

from argparse import ArgumentParser
from dataclasses import replace
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from awx_ratelimit.adapters.django.configuration import Configuration, configuration
from awx_ratelimit.adapters.django.trial import tried
from awx_ratelimit.core import durations
from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.validation import escape_unprintable
from awx_ratelimit.errors import AwxRateLimitError, BackendUnavailable
from awx_ratelimit.http.known_callers import known_caller, knows
from awx_ratelimit.http.subject_usage import (
    current_usages,
    note_if_unused,
    nothing_to_reset,
    shared_limits,
    usage_reset,
)
from awx_ratelimit.keys.validation import refuse_key


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

    def handle(self, *_: Any, action: str, subject: str = "", plan: str | None = None, **__: Any) -> None:
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
                self._show(found, subject, plan)
            else:
                self._reset(found, subject)
        except BackendUnavailable as error:
            raise CommandError(f"the backend is unavailable: {error}") from error
        except (ImproperlyConfigured, AwxRateLimitError) as error:
            raise CommandError(str(error)) from error

    def _check(self, found: Configuration) -> None:
        with tried(found) as opened:
            for plan in found.plans.plans:
                self._print(f"plan {plan.name}: {_limits(plan) or 'unlimited'}")
            health = opened.limiter.health()
        self._print(f"backend {health['backend']}: {health['state']}")
        if health["state"] != "ok":
            raise CommandError(f"the backend does not work: {health['state']}")

    def _reset(self, found: Configuration, subject: str) -> None:
        with found.opened_to_look() as limiter:
            counted = _counted_subject(found, subject)
            was_counted = limiter.reset(counted)
        if was_counted:
            self._print(usage_reset(subject, counted))
            return
        is_known = knows(found.parts, subject)
        said = nothing_to_reset(counted, is_known=is_known)
        if not is_known:
            raise CommandError(said)
        self._print(said)

    def _show(self, found: Configuration, subject: str, named_plan: str | None) -> None:
        caller = _caller(found, subject, named_plan)
        plan = found.plans.resolve(caller)
        with found.opened_to_look() as limiter:
            usages = current_usages(limiter, caller.subject, plan, shared_limits(caller, plan))
        for usage in usages:
            wait = f", full again in {durations.wait(usage.reset_after_ms)}" if usage.reset_after_ms else ""
            self._print(f"{usage.limit}: {usage.remaining} of {usage.capacity} left{wait}")
        for note in note_if_unused(caller.subject, usages):
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


def _counted_subject(found: Configuration, subject: str) -> str:
    """The subject whose limits `subject` uses: another one for a key that was rotated. It needs no plan."""
    caller = known_caller(found.parts, subject, has_plan=True)
    return subject if caller is None else caller.subject


def _limits(plan: Plan) -> str:
    limits = [f"{rate.name} {rate.tokens} per {rate.period or durations.period(rate.period_ms)}" for rate in plan.rates]
    return ", ".join([*limits, *([f"concurrent {plan.concurrency.slots}"] if plan.concurrency else [])])
