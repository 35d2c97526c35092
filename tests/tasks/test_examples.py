"""The examples of limited functions, tasks and RPCs, run as their readers run them."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.processes import guarded, stop
from tests.redis_servers import RedisServer

ROOT = Path(__file__).parents[2]


def environment(server: RedisServer | None = None) -> dict[str, str]:
    return {**os.environ, "PYTHONUNBUFFERED": "1", "BROKER": server.url if server else ""}


def run(*command: str, server: RedisServer | None = None) -> str:
    """What a program writes."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment(server),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@contextmanager
def running(*command: str, server: RedisServer | None = None) -> Iterator["subprocess.Popen[str]"]:
    """A program that runs until the end of the block. Its lines can be read from `stdout`."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment(server),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    guard = guarded(process)  # type: ignore[arg-type]
    try:
        yield process
    finally:
        stop(process, guard)  # type: ignore[arg-type]
        assert process.stdout is not None
        process.stdout.close()


def line_with(process: "subprocess.Popen[str]", text: str) -> str:
    """The next line with `text`."""
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return line
    raise AssertionError(process.poll())


@pytest.mark.parametrize(("adapter", "package"), [("celery", "celery"), ("arq", "arq"), ("grpc", "grpcio")], ids=str)
def test_missing_package(adapter: str, package: str) -> None:
    """Without its package, an adapter is an ImportError with the command that installs it."""
    code = (
        f"import sys; sys.modules['{adapter}'] = None\n"
        f"try:\n    import awx_ratelimit.adapters.{adapter}\nexcept ImportError as error:\n    print(error)"
    )

    assert run("-c", code).strip().endswith(f" need {package}; install it with: pip install {package}")


def test_limited_functions() -> None:
    """The third email to an address and the second export at a time are refused."""
    said = re.sub(r"Retry after \d+", "Retry after 30", run("examples/limited_functions.py"))

    assert said.splitlines() == [
        "to ada@example.com: hello",
        "to ada@example.com: hello",
        "Too many calls of send. Retry after 30 seconds.",
        "to bob@example.com: hello",
        "atlas",
        "Too many calls of export",
        "['borea'] ['atlas', 'borea']",
    ]


def test_celery_tasks(redis_server: RedisServer) -> None:
    """A worker with two processes sends all five emails. Some of them are retried, and none fails."""
    send = "from examples.celery_tasks import send; [send.delay('ada@example.com') for _ in range(5)]"
    with running(
        *("-m", "celery", "--app", "examples.celery_tasks", "worker", "--concurrency", "2", "--loglevel", "info"),
        server=redis_server,
    ) as worker:
        run("-c", send, server=redis_server)
        lines: list[str] = []
        while sum("succeeded in" in line for line in lines) < 5:
            lines.append(line_with(worker, "Task examples.celery_tasks.send"))

    assert any("retry: Retry in" in line for line in lines)
    assert not any("raised unexpected" in line for line in lines)


def test_arq_jobs(redis_server: RedisServer) -> None:
    """A worker runs all five jobs. Some of them are retried, and none fails."""
    send = (
        "import asyncio, arq\nfrom examples.arq_jobs import WorkerSettings\n"
        "async def main():\n"
        "    pool = await arq.create_pool(WorkerSettings.redis_settings)\n"
        "    for _ in range(5):\n        await pool.enqueue_job('send', 'ada@example.com')\n"
        "    await pool.aclose()\n"
        "asyncio.run(main())"
    )
    run("-c", send, server=redis_server)
    said = run("-m", "arq", "examples.arq_jobs.WorkerSettings", "--burst", server=redis_server)

    assert len(re.findall("●", said)) == 5
    assert "retrying job in" in said
    assert " failed, " not in said
    assert "max retries" not in said


def test_grpc_server() -> None:
    """The server greets until the limit of the key, refuses the others, and always says that it is healthy."""
    with running("-m", "examples.grpc_server", "127.0.0.1:0") as process:
        port = line_with(process, "listening").split()[-1]
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            metadata = (("x-api-key", "awx_demo_starter"),)
            hello: Any = channel.unary_unary("/demo.Greeter/Hello")
            count: Any = channel.unary_stream("/demo.Greeter/Count")
            greeted = hello(b"Ada", metadata=metadata, timeout=20)
            counted = list(count(b"", metadata=metadata, timeout=20))
            errors: list[Any] = []
            # Another call is admitted every second, and a busy machine needs seconds for 60 calls.
            while not errors:
                futures = [hello.future(b"Ada", metadata=metadata, timeout=20) for _ in range(60)]
                errors = [error for future in futures if (error := future.exception()) is not None]
            healthy = channel.unary_unary("/demo.Health/Check")(b"", timeout=20)

    assert greeted == b"hello Ada"
    assert counted == [b"1", b"2", b"3"]
    assert {error.code() for error in errors} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert {error.details() for error in errors} == {"Rate limit exceeded. Retry after 1 second."}
    assert healthy == b"SERVING"
