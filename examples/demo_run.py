"""The course of the demo: start the server, send the traffic, show the table, go on serving. `demo` runs it."""

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import httpx2
from examples.demo_files import own_file
from examples.demo_keys import Desk, Keys, NoKey, own_keys
from examples.demo_redis import own_redis
from examples.demo_rows import Row, console, table
from examples.demo_scenarios import RESTART, SCENARIOS, outlive
from examples.demo_server import Server, ServerFailed, start
from examples.demo_traffic import ANSWER_SECONDS
from rich.console import Console
from rich.live import Live

TIERS = ("starter", "growth", "enterprise")
BETWEEN_ROWS_SECONDS = 0.35
#: A connection that the server may be about to close is not used again.
LIMITS = httpx2.Limits(max_connections=None, keepalive_expiry=2.0)
INTRODUCTION = """
[bold]awx_ratelimit[/bold]: requests a minute, a day and at once, in one decision.
Real traffic to a wallet API under uvicorn, {url}
Served by {workers}; limits are kept in {backend}.

[dim]promised: the Retry-After of a refusal. proven: how long after it, or after a
slot came free, a request was let in (of a revoked key: the last one). Each row
has an API key of its own, made over the REST API.[/dim]
"""
TRY_IT = """
The server goes on; Ctrl-C ends it. In another terminal:

  API={url} KEY='X-API-Key: {starter}'
  curl -i -H "$KEY" $API/v1/agents
  for i in $(seq 70); do
    curl -so /dev/null -w '%{{http_code}} ' -H "$KEY" $API/v1/agents; done
  curl -i -H "$KEY" $API/v1/transfers \\
    -d '{{"agent": "agent_atlas", "to": "0x51c0ffee", "amount": "2.50"}}'
  curl -N -H "$KEY" "$API/v1/reports/stream?chunks=20&pause_ms=500"

The console, Settings > API Keys; this link logs you in, once:

  {url}{login}

Other keys: {growth}
            {enterprise}
Keys of your own, by this access token:

  TOKEN={token}
  curl -i $API/api/v1/api-keys -H "Authorization: Bearer $TOKEN" \\
    -H 'Content-Type: application/json' -d '{{"name": "production-backend"}}'
  curl $API/api/v1/usage -H "Authorization: Bearer $TOKEN"
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; the exit status."""
    options = _options(arguments)
    # Whoever starts this in the background (`make demo &`) has it ignore SIGINT, and then it could not be ended.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # To be ended is to be interrupted, also in the event loop, which makes something of SIGINT alone.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    out = console()
    rows = [Row(scenario.tier.title(), scenario.traffic) for scenario in SCENARIOS]
    if options.workers > 1 and sys.platform == "linux":
        rows.append(Row(RESTART.tier.title(), RESTART.traffic))
    try:
        with (
            _backend(options.backend, options.workers) as backend,
            own_keys(TIERS) as keys,
            start(options.app, _environment(backend, keys), workers=options.workers) as server,
        ):
            out.print(INTRODUCTION.format(url=server.url, workers=_counted(options.workers), backend=_shown(backend)))
            _show(out, rows, server, keys)
            if not options.once:
                _serve_on(out, server, keys)
    except KeyboardInterrupt:
        out.print("\nStopped before the end.")
        return 130
    except ServerFailed as error:
        out.print(f"The server failed: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    return 0 if all(row.held for row in rows) else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Hold a wallet API to the promises of awx_ratelimit.")
    parser.add_argument("--once", action="store_true", help="end after the table; status 0 when every promise held")
    parser.add_argument(
        "--app",
        default="examples.wallet_api:create_app",
        metavar="MODULE:FACTORY",
        help="hold another app to the same promises; see examples/wallet_api.py for its environment (%(default)s)",
    )
    parser.add_argument(
        "--backend",
        default="host" if sys.platform == "linux" else "memory",
        metavar="NAME or URL",
        help="where limits are kept: host (a file of the demo's own), memory, redis (a server of its own), or a URL "
        "such as host:///path/to/file or redis://host (%(default)s)",
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that serve (%(default)s)")
    options = parser.parse_args(arguments)
    if options.workers > 1 and options.backend == "memory":
        parser.error("memory is one process's own: with several workers, give --backend host or redis")
    return options


@contextmanager
def _backend(name: str, workers: int) -> Iterator[str]:
    """The URL of the backend, which may be a server that lives as long as the demo."""
    if name == "redis":
        with own_redis() as url:
            yield f"{url}?expected_workers={workers}&budget_ms=1000"
    elif name == "host":
        yield own_file()
    else:
        yield "memory://" if name == "memory" else name


def _shown(backend: str) -> str:
    """A URL without user and password."""
    scheme, _, rest = backend.partition("://")
    if scheme == "host":
        return f"{rest}, over restarts too"
    return "this process" if scheme == "memory" else f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"


def _counted(workers: int) -> str:
    return "1 process" if workers == 1 else f"{workers} processes"


def _environment(backend: str, keys: Keys) -> dict[str, str]:
    return {"WALLET_BACKEND": backend, "WALLET_DATABASE": keys.database, "WALLET_TOKEN_SECRET": keys.secret}


def _show(out: Console, rows: Sequence[Row], server: Server, keys: Keys) -> None:
    begun = time.monotonic()
    if out.is_terminal:
        with Live(get_renderable=lambda: table(rows), console=out, refresh_per_second=12):
            asyncio.run(_send(rows, server, keys))
    else:
        asyncio.run(_send(rows, server, keys))
        out.print(table(rows))
    _summarise(out, rows, time.monotonic() - begun)


def _client(server: Server) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=server.url, trust_env=False, timeout=ANSWER_SECONDS, limits=LIMITS)


async def _send(rows: Sequence[Row], server: Server, keys: Keys) -> None:
    async with _client(server) as http:
        try:
            await server.ready(http)
        except ServerFailed:
            for row in rows:
                row.held, row.reason = False, "not tried"
            raise
        desks = {tier: Desk(http, keys.token(tier)) for tier in TIERS}
        begun = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for number, (scenario, row) in enumerate(zip(SCENARIOS, rows, strict=False)):
                begin_at = begun + number * BETWEEN_ROWS_SECONDS
                tasks.create_task(scenario.run(http, desks[scenario.tier], row, begin_at))
        for row in rows[len(SCENARIOS) :]:
            # Alone: it takes the connections of all others away.
            restart = replace(RESTART, play=partial(outlive, requests=7, replace=server.replace_workers))
            await restart.run(http, desks[restart.tier], row, time.monotonic())


def _summarise(out: Console, rows: Sequence[Row], seconds: float) -> None:
    broken = [f"{row.plan}, {row.traffic}" for row in rows if not row.held]
    if not broken:
        out.print(f"\n[bold green]All {len(rows)} promises held[/bold green], in {seconds:.1f} s.")
        return
    out.print(f"\n[bold red]{len(broken)} of {len(rows)} promises broken[/bold red]:")
    for what in broken:
        out.print(f"  {what}", markup=False)


def _serve_on(out: Console, server: Server, keys: Keys) -> None:
    made = asyncio.run(_reader_keys(server, keys))
    out.print(
        TRY_IT.format(url=server.url, token=keys.token("starter"), login=keys.login_path("starter"), **made),
        markup=False,
        soft_wrap=True,
    )
    try:
        status = server.process.wait()
    except KeyboardInterrupt:
        out.print("\nStopped.")
    else:
        raise ServerFailed(f"it ended with status {status}")


async def _reader_keys(server: Server, keys: Keys) -> dict[str, str]:
    """Of each tier a key for the reader."""
    async with _client(server) as http:
        try:
            return {tier: (await Desk(http, keys.token(tier)).create("reader")).key for tier in TIERS}
        except (NoKey, httpx2.HTTPError) as error:
            raise ServerFailed(f"it makes no keys: {error}") from error
