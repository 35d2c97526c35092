"""``awx-ratelimit explain GET /v1/transfers --app shop.main:app``: what the app's gate would do with a request."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer

from awx_ratelimit.backends.memory.backend import MemoryBackend
from awx_ratelimit.cli import output
from awx_ratelimit.cli.app_gates import ask, gate_around, imported
from awx_ratelimit.cli.callers import caller_of
from awx_ratelimit.cli.options import Json, with_options
from awx_ratelimit.cli.route_limits import RoutesUnknown, expect_limits
from awx_ratelimit.cli.stdin_key import STDIN, key_from_stdin
from awx_ratelimit.errors import KeyNotFound
from awx_ratelimit.http.client_address import ADDRESS_PREFIX
from awx_ratelimit.http.explain import AnyGate, explainable, found_by, request_to
from awx_ratelimit.http.explanation import Explanation
from awx_ratelimit.http.identity.static_keys import StaticKeys
from awx_ratelimit.http.known_callers import key_service_of, missing_key, no_such_key
from awx_ratelimit.http.message import Request
from awx_ratelimit.http.proxy_warnings import UNIX
from awx_ratelimit.http.subject_usage import note_of_own_identifier
from awx_ratelimit.keys.validation import refuse_key
from awx_ratelimit.runtime.documentation import page

Method = Annotated[str, typer.Argument(help="Method of the request, such as GET.")]
PathAndQuery = Annotated[str, typer.Argument(metavar="PATH", help="Path of the request. It may have a query.")]
_NO_ADDRESS: Final = f"{ADDRESS_PREFIX}{UNIX}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ExplainOptions:
    """The app, and whose request it is."""

    app: Annotated[
        str,
        typer.Option(envvar="AWX_APP", help="App, middleware or gate, as module:attribute. Its module is imported."),
    ]
    key_id: Annotated[str | None, typer.Option(help="ID of a stored key: explain a request with this key.")] = None
    subject: Annotated[str | None, typer.Option(help="Subject of the caller, as your app names it.")] = None
    account: Annotated[str | None, typer.Option(help="Account of the subject, or of the key.")] = None
    plan: Annotated[
        str | None,
        typer.Option(help="Plan of the subject. Default: the one that the app gives it, or the default plan."),
    ] = None
    key: Annotated[
        str | None,
        typer.Option(
            metavar="-", help="'-' reads the key from standard input, or asks for it. Never pass a key itself."
        ),
    ] = None
    address: Annotated[str | None, typer.Option(help="Address of the client, such as 192.0.2.1.")] = None
    json: Json = False

    def check(self) -> None:
        """Raise an error unless the options name one caller, or none. No message shows a key in one of them."""
        callers = [name for name in ("key_id", "subject", "key") if getattr(self, name) is not None]
        if len(callers) > 1:
            names = " and ".join(map(_option, callers))
            raise typer.BadParameter(f"expected one of --key-id, --subject and --key, got {names}")
        if self.key not in (None, STDIN):
            raise typer.BadParameter(
                "expected '-', which reads the key from standard input; other users can read command lines",
                param_hint="--key",
            )
        for name in ("key_id", "subject", "account", "plan"):
            refuse_key(getattr(self, name) or "", _option(name))
        for name, needs in (("plan", ("subject",)), ("account", ("subject", "key_id"))):
            if getattr(self, name) is not None and not set(needs) & set(callers):
                raise typer.BadParameter(
                    f"expected {' or '.join(map(_option, needs))} too, got neither", param_hint=_option(name)
                )

    @property
    def has_caller(self) -> bool:
        """Whether one of the options names a caller."""
        return (self.key_id, self.subject, self.key) != (None, None, None)


@with_options(ExplainOptions)
def explain(method: Method, path: PathAndQuery, options: ExplainOptions) -> None:
    """Print which rule and limits apply to a request, how they stand, and what would refuse it.

    Nothing is charged. Name the caller with --key-id, --subject or `--key -`; otherwise the request has no key. Apps
    that limit clients by their address need --address.
    """
    options.check()
    app = imported(options.app, "--app")
    gate = gate_around(app, options.app, "--app")
    headers = {} if options.key is None else {"X-API-Key": key_from_stdin("--key")}
    request = request_to(gate, method, path, headers, options.address)
    identify, is_known = _identifier(gate, options)
    unknown = _unknown_routes(app, gate, request)
    with explainable(request):
        explained: Explanation = ask(gate, lambda asked: asked.explain(request, identify))
    if options.json:
        output.print_json({**explained.fields(), "knows_route_limits": not unknown})
    else:
        for line in str(explained).splitlines():
            output.print_line(line)
    for note in _notes(gate, explained, options, unknown):
        output.say(f"note: {note}")
    if not options.json:
        output.say_all(note_of_own_identifier(gate.parts, is_known=is_known, remedy="--key - explains them"))


def _unknown_routes(app: Any, gate: AnyGate, request: Request) -> str:
    """Why limits of the route may be missing in the explanation; empty if they are not."""
    try:
        expect_limits(app, gate, request)
    except RoutesUnknown as error:
        return str(error)
    return ""


def _identifier(gate: AnyGate, options: ExplainOptions) -> tuple[Callable[[Request], Any] | None, bool]:
    """An identifier that finds the caller whom the options name, and whether the app knows that; None for its own."""
    if options.key_id is not None:
        keys, key_id, account = _keys(gate), options.key_id, options.account
        try:
            return found_by(lambda: keys.accounts.caller(key_id, account)), True
        except KeyNotFound as error:
            raise no_such_key(key_id) if account is None else missing_key(keys, key_id, account) from error
    if options.subject is not None:
        caller, is_known = caller_of(options.subject, options.account, options.plan, gate=gate)
        return found_by(lambda: caller), is_known
    return None, True


def _notes(gate: AnyGate, explained: Explanation, options: ExplainOptions, unknown: str) -> Iterator[str]:
    """What the explanation does not say, or may seem to say."""
    if options.json:
        return
    if unknown:
        yield (
            f"the route limits are not known here, so one of them may refuse the request. The reason: {unknown}. "
            f"A server knows those of the paths that it serves. See {page('explain', 'route-limits')}"
        )
    if not options.has_caller and (hint := _way_to_name_a_caller(gate)):
        yield f"this is a request without a key; to explain one with a key, write {hint}"
    if options.address is None and any(budget.subject == _NO_ADDRESS for budget in explained.budgets):
        yield (
            f"no address was given, so this is the request of a client without one, {_NO_ADDRESS}. "
            "To explain that of another client, write --address 192.0.2.1"
        )
    if _is_in_memory(gate):
        yield (
            "these limits are in the memory of each server process, so this command sees only unused ones. "
            "To share them, use a host:// or redis:// backend"
        )


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _way_to_name_a_caller(gate: AnyGate) -> str:
    """The options for a request with a key; empty if the app does not identify callers by keys."""
    if key_service_of(gate.parts) is not None:
        return "--key-id ID or --key -"
    return "--key -" if isinstance(gate.parts.identify, StaticKeys) else ""


def _keys(gate: AnyGate) -> Any:
    """A service of the store that the app identifies callers by."""
    keys = key_service_of(gate.parts)
    if keys is None:
        raise typer.BadParameter(
            "expected an app that identifies callers by StoredKeys, got one with another identifier; "
            "write --subject and --plan",
            param_hint="--key-id",
        )
    return keys


def _is_in_memory(gate: AnyGate) -> bool:
    backend = gate.parts.limiter.backend
    while hasattr(backend, "backend"):
        backend = backend.backend
    return isinstance(backend, MemoryBackend)
