"""Run the demo: start the server, send the traffic, show the table, keep serving."""

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from tempfile import TemporaryDirectory

import httpx2
from examples.demo_files import own_file
from examples.demo_keys import KeyManager, Keys, NoKey, own_keys
from examples.demo_postgres import own_postgres
from examples.demo_redis import own_redis
from examples.demo_rows import Row, console, table
from examples.demo_scenarios import RESTART, SCENARIOS, outlive
from examples.demo_server import Server, ServerFailed, start
from examples.demo_traffic import ANSWER_SECONDS
from rich.console import Console
from rich.live import Live

TIERS = ("starter", "growth", "enterprise")
BETWEEN_ROWS_SECONDS = 0.35
#: Do not reuse a connection that the server may be about to close.
LIMITS = httpx2.Limits(max_connections=None, keepalive_expiry=2.0)
INTRODUCTION = """
[bold]awx_ratelimit[/bold]: requests per minute, per day and at once, in one decision.
Real traffic to a wallet API under uvicorn, {url}
Served by {workers}. Limits are in {backend}.

[dim]promised: the Retry-After of a refusal. measured: the time from the refusal, or
from a freed slot, to the next admitted request (a revocation: to the last one).
Each row has its own API key, created over the REST API.[/dim]
"""
TRY_IT = """
The server keeps running; press Ctrl-C to stop it. In another terminal:

  API={url} KEY='X-API-Key: {starter}'
  curl -i -H "$KEY" $API/v1/agents
  for i in $(seq 70); do
    curl -so /dev/null -w '%{{http_code}} ' -H "$KEY" $API/v1/agents; done
  curl -i -H "$KEY" $API/v1/transfers \\
    -d '{{"agent": "agent_atlas", "to": "0x51c0ffee", "amount": "2.50"}}'
  curl -N -H "$KEY" "$API/v1/reports/stream?chunks=20&pause_ms=500"

The console, Settings > API Keys. This link logs you in, once:

  {url}{login}

The console for the operator of the service, with all accounts:

  {url}{operator_login}

What the limits did, for Prometheus and the dashboard of docs/metrics.md:

  curl -sL $API/metrics | grep ^awx_ratelimit

Other keys: {growth}
            {enterprise}
Create your own keys with this access token:

  TOKEN={token}
  curl -i $API/api/v1/api-keys -H "Authorization: Bearer $TOKEN" \\
    -H 'Content-Type: application/json' -d '{{"name": "production-backend"}}'
  curl $API/api/v1/usage -H "Authorization: Bearer $TOKEN"
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; the exit status."""
    options = _options(arguments)
    workers = options.workers
    # A shell that starts it in the background (`make demo &`) makes it ignore SIGINT, and nothing could stop it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Treat SIGTERM as an interrupt, because the event loop handles only SIGINT.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    out = console()
    rows = [Row(scenario.tier.title(), scenario.traffic) for scenario in SCENARIOS]
    if workers > 1 and sys.platform == "linux":
        rows.append(Row(RESTART.tier.title(), RESTART.traffic))
    try:
        with (
            _backend(options.backend, workers) as backend,
            own_keys(TIERS) as keys,
            TemporaryDirectory(prefix="awx-demo-metrics-") as metrics,
            start(options.app, _environment(backend, keys, metrics, workers), workers=workers) as server,
        ):
            out.print(INTRODUCTION.format(url=server.url, workers=_counted(workers), backend=_shown(backend)))
            _show(out, rows, server, keys)
            if not options.once:
                _serve_on(out, server, keys)
    except KeyboardInterrupt:
        out.print("\nStopped before the end.")
        return 130
    except ServerFailed as error:
        out.print(f"The server failed: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    return 0 if all(row.kept for row in rows) else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Test a wallet API against the promises of awx_ratelimit.")
    parser.add_argument(
        "--once", action="store_true", help="stop after the table; exit status 0 if every promise was kept"
    )
    parser.add_argument(
        "--app",
        default="examples.wallet_api:create_app",
        metavar="MODULE:FACTORY",
        help="test another app; see examples/wallet_api.py for its environment variables (%(default)s)",
    )
    parser.add_argument(
        "--backend",
        default="host" if sys.platform == "linux" else "memory",
        metavar="NAME or URL",
        help="where limits are kept: host (the demo's own file), memory, redis or postgres (the demo's own "
        "server), or a URL such as host:///path/to/file or redis://host (%(default)s)",
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="number of server processes (%(default)s)")
    options = parser.parse_args(arguments)
    if options.workers > 1 and options.backend == "memory":
        parser.error("memory belongs to one process: with several workers, use --backend host, redis or postgres")
    return options


@contextmanager
def _backend(name: str, workers: int) -> Iterator[str]:
    """The URL of the backend. The demo may start a server for it."""
    if name == "redis":
        with own_redis() as url:
            yield f"{url}?expected_workers={workers}&budget_ms=1000"
    elif name == "postgres":
        with own_postgres() as url:
            yield f"{url}&expected_workers={workers}&budget_ms=1000"
    elif name == "host":
        yield own_file()
    else:
        yield "memory://" if name == "memory" else name


def _shown(backend: str) -> str:
    """A URL without user and password."""
    scheme, _, rest = backend.partition("://")
    if scheme == "host":
        return f"{rest}, and survive restarts"
    return "this process" if scheme == "memory" else f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"


def _counted(workers: int) -> str:
    return "1 process" if workers == 1 else f"{workers} processes"


def _environment(backend: str, keys: Keys, metrics: str, workers: int) -> dict[str, str]:
    wallet = {"WALLET_BACKEND": backend, "WALLET_DATABASE": keys.database, "WALLET_TOKEN_SECRET": keys.secret}
    return wallet | ({"PROMETHEUS_MULTIPROC_DIR": metrics} if workers > 1 else {})


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
                row.kept, row.reason = False, "not tried"
            raise
        key_managers = {tier: KeyManager(http, keys.token(tier)) for tier in TIERS}
        begun = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for number, (scenario, row) in enumerate(zip(SCENARIOS, rows, strict=False)):
                begin_at = begun + number * BETWEEN_ROWS_SECONDS
                tasks.create_task(scenario.run(http, key_managers[scenario.tier], row, begin_at))
        for row in rows[len(SCENARIOS) :]:
            # Runs alone, because it breaks the connections of all others.
            restart = replace(RESTART, play=partial(outlive, requests=7, replace=server.replace_workers))
            await restart.run(http, key_managers[restart.tier], row, time.monotonic())


def _summarise(out: Console, rows: Sequence[Row], seconds: float) -> None:
    broken = [f"{row.plan}, {row.traffic}" for row in rows if not row.kept]
    if not broken:
        out.print(f"\n[bold green]All {len(rows)} promises were kept[/bold green], in {seconds:.1f} s.")
        return
    out.print(f"\n[bold red]{len(broken)} of {len(rows)} promises were broken[/bold red]:")
    for what in broken:
        out.print(f"  {what}", markup=False)


def _serve_on(out: Console, server: Server, keys: Keys) -> None:
    made = asyncio.run(_reader_keys(server, keys))
    out.print(
        TRY_IT.format(
            url=server.url,
            token=keys.token("starter"),
            login=keys.login_path("starter"),
            operator_login=keys.operator_login_path(),
            **made,
        ),
        markup=False,
        soft_wrap=True,
    )
    try:
        status = server.process.wait()
    except KeyboardInterrupt:
        out.print("\nStopped.")
    else:
        raise ServerFailed(f"it exited with status {status}")


async def _reader_keys(server: Server, keys: Keys) -> dict[str, str]:
    """Create a key of each tier for the reader."""
    async with _client(server) as http:
        try:
            return {tier: (await KeyManager(http, keys.token(tier)).create("reader")).key for tier in TIERS}
        except (NoKey, httpx2.HTTPError) as error:
            raise ServerFailed(f"it cannot create keys: {error}") from error
