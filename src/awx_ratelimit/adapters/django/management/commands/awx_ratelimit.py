"""``manage.py awx_ratelimit check``, ``show`` and ``reset``: the limits of the project, by its settings."""

from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from awx_ratelimit.adapters.django.configuration import Configuration, configuration
from awx_ratelimit.core import durations
from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.validation import escape_unprintable
from awx_ratelimit.errors import BackendUnavailable, InvalidKeyRequest, InvalidLimit
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
        show.add_argument("--plan", help="Plan of the subject. Default: the table's default plan.")
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
            resolved = found.plans.resolve(Caller(subject, plan))
            with found.opened_to_look() as limiter:
                if action == "show":
                    self._show(limiter, subject, resolved)
                else:
                    limiter.reset(subject)
                    self._print("usage reset")
        except (ImproperlyConfigured, InvalidKeyRequest, InvalidLimit) as error:
            raise CommandError(str(error)) from error
        except BackendUnavailable as error:
            raise CommandError(f"the backend is unavailable: {error}") from error

    def _check(self, found: Configuration) -> None:
        found.check()
        for plan in found.plans.plans:
            self._print(f"plan {plan.name}: {_limits(plan) or 'unlimited'}")
        health = found.limiter.health()
        self._print(f"backend {health['backend']}: {health['state']}")
        if health["state"] != "ok":
            raise CommandError(f"the backend does not work: {health['state']}")

    def _show(self, limiter: Limiter, subject: str, plan: Plan) -> None:
        for usage in limiter.peek(subject, plan).usages:
            wait = f", full again in {durations.wait(usage.reset_after_ms)}" if usage.reset_after_ms else ""
            self._print(f"{usage.limit}: {usage.remaining} of {usage.capacity} left{wait}")

    def _print(self, text: str) -> None:
        self.stdout.write(escape_unprintable(text))


def _limits(plan: Plan) -> str:
    limits = [f"{rate.name} {rate.tokens} per {rate.period or durations.period(rate.period_ms)}" for rate in plan.rates]
    return ", ".join([*limits, *([f"concurrent {plan.concurrency.slots}"] if plan.concurrency else [])])
