"""``awx-ratelimit explain GET /v1/transfers --app shop.main:app``: what the app's gate would do with a request."""

from collections.abc import Callable
from typing import Annotated, Any, Final

import typer

from awx_ratelimit.backends.memory.backend import MemoryBackend
from awx_ratelimit.cli import output
from awx_ratelimit.cli.app_gates import gate_of
from awx_ratelimit.cli.callers import caller_of, verifier_of
from awx_ratelimit.cli.stdin_key import STDIN, key_from_stdin
from awx_ratelimit.http.client_address import ADDRESS_PREFIX, UNIX
from awx_ratelimit.http.explain import AnyGate, explainable, found_by, request_to
from awx_ratelimit.http.explanation import Explanation
from awx_ratelimit.http.gate import AsyncGate
from awx_ratelimit.http.identity.static_keys import StaticKeys
from awx_ratelimit.http.message import Request
from awx_ratelimit.keys.validation import refuse_key

Method = Annotated[str, typer.Argument(help="Method of the request, such as GET.")]
PathAndQuery = Annotated[str, typer.Argument(metavar="PATH", help="Path of the request, also with a query.")]
App = Annotated[
    str,
    typer.Option(envvar="AWX_APP", help="App, middleware or gate, as module:attribute. Its module is imported."),
]
KeyId = Annotated[str | None, typer.Option(help="ID of a stored key: explain a request with this key.")]
Subject = Annotated[str | None, typer.Option(help="Subject of the caller, as your app gives it.")]
Account = Annotated[str | None, typer.Option(help="Account of the subject, or of the key.")]
PlanName = Annotated[
    str | None, typer.Option(help="Plan of the subject. Default: the one that the app gives it, or the default plan.")
]
Address = Annotated[str | None, typer.Option(help="Address that sends the request, such as 192.0.2.1.")]
Key = Annotated[
    str | None,
    typer.Option(metavar="-", help="'-' reads the key from standard input, or asks for it. It is never an argument."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_NO_ADDRESS: Final = f"{ADDRESS_PREFIX}{UNIX}"


def explain(
    method: Method,
    path: PathAndQuery,
    *,
    app: App,
    key_id: KeyId = None,
    subject: Subject = None,
    account: Account = None,
    plan: PlanName = None,
    key: Key = None,
    address: Address = None,
    json: Json = False,
) -> None:
    """Print which rule and limits apply to a request, how they stand, and what would refuse it.

    Nothing is charged. Name the caller by --key-id, by --subject, or by --key -; without them, explain a request
    without a key. Apps that limit clients by their address need --address.
    """
    _check_options(key_id=key_id, subject=subject, account=account, plan=plan, key=key)
    gate = gate_of(app)
    headers = {} if key is None else {"X-API-Key": key_from_stdin("--key")}
    request = request_to(gate, method, path, headers, address)
    identify = None
    if key_id is not None:
        accounts = _accounts(gate)
        identify = found_by(lambda: accounts.caller(key_id, account))
    elif subject is not None:
        caller = caller_of(subject, account, plan, gate=gate)
        identify = found_by(lambda: caller)
    explained = _explained(gate, request, identify)
    if json:
        output.print_json(explained.fields())
        return
    for line in str(explained).splitlines():
        output.print_line(line)
    if key_id is None and subject is None and key is None and (hint := _way_to_name_a_caller(gate)):
        output.say(f"note: this is a request without a key; to explain one with a key, write {hint}")
    if address is None and any(budget.subject == _NO_ADDRESS for budget in explained.budgets):
        output.say(
            f"note: no address was given, so this is the request of a client without one, {_NO_ADDRESS}; "
            "to explain that of another client, write --address 192.0.2.1"
        )
    if _is_in_memory(gate):
        output.say(
            "note: these limits are in the memory of each server process, so this command sees only unused ones; "
            "use a host:// or redis:// backend to share them"
        )


def _check_options(**options: str | None) -> None:
    """Raise an error unless the options name one caller, or none. No message shows a key in one of them."""
    callers = [name for name in ("key_id", "subject", "key") if options[name] is not None]
    if len(callers) > 1:
        names = " and ".join(map(_option, callers))
        raise typer.BadParameter(f"expected one of --key-id, --subject and --key, got {names}")
    if options["key"] not in (None, STDIN):
        raise typer.BadParameter(
            "expected '-', which reads the key from standard input; other users can read command lines",
            param_hint="--key",
        )
    for name in ("key_id", "subject", "account", "plan"):
        refuse_key(options[name] or "", _option(name))
    for name, needs in (("plan", ("subject",)), ("account", ("subject", "key_id"))):
        if options[name] is not None and not any(options[each] is not None for each in needs):
            raise typer.BadParameter(
                f"expected {' or '.join(map(_option, needs))} too, got neither", param_hint=_option(name)
            )


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _way_to_name_a_caller(gate: AnyGate) -> str:
    """The options for a request with a key; empty if the app does not identify callers by keys."""
    if verifier_of(gate) is not None:
        return "--key-id ID or --key -"
    return "--key -" if isinstance(gate.parts.identify, StaticKeys) else ""


def _accounts(gate: AnyGate) -> Any:
    """The accounts of the store that the app identifies callers by."""
    verifier = verifier_of(gate)
    if verifier is None:
        raise typer.BadParameter(
            "expected an app that identifies callers by StoredKeys, got one with another identifier; "
            "write --subject and --plan",
            param_hint="--key-id",
        )
    from awx_ratelimit.keys import KeyService

    return KeyService(verifier.store).accounts


def _explained(gate: AnyGate, request: Request, identify: Callable[[Request], Any] | None) -> Explanation:
    with explainable(request):
        if isinstance(gate, AsyncGate):
            import asyncio

            return asyncio.run(_explained_in_loop(gate, request, identify))
        return gate.explain(request, identify)


async def _explained_in_loop(gate: AsyncGate, request: Request, identify: Any) -> Explanation:
    try:
        return await gate.explain(request, identify)
    finally:
        # Its connections belong to this event loop.
        await gate.parts.limiter.aclose()


def _is_in_memory(gate: AnyGate) -> bool:
    backend = gate.parts.limiter.backend
    while hasattr(backend, "backend"):
        backend = backend.backend
    return isinstance(backend, MemoryBackend)
