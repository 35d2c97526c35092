"""The load tester's request rate, compared with plain Locust and FastHttpUser: same users, target and time.

Not timed: starting the processes, and the audit. The sides run in turn, three times; the ratio is that of the medians.
The target does as little work as asyncio allows, so that the tester is measured. The target counts its responses, and
both counts must agree.
"""

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from urllib.request import urlopen

from awx_ratelimit import Plan
from awx_ratelimit.loadtest.run_config import RunConfig
from awx_ratelimit.loadtest.runner import run

USERS, SECONDS, ROUNDS = 10, 6, 3
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n" + b'{"fine":true}'
KEY = "awx_bench_key"
PLAIN = """
import sys, time
from locust import FastHttpUser, constant, task
from locust.env import Environment
import gevent

class Plain(FastHttpUser):
    host = sys.argv[1]
    wait_time = constant(0)

    @task
    def ask(self):
        self.client.get("/", headers={"X-API-Key": "awx_bench_key"})

environment = Environment(user_classes=[Plain])
runner = environment.create_local_runner()
begin = time.perf_counter()
runner.start(int(sys.argv[2]), spawn_rate=int(sys.argv[2]))
gevent.sleep(float(sys.argv[3]))
count, seconds = environment.stats.total.num_requests, time.perf_counter() - begin
runner.quit()
assert not environment.stats.total.num_failures
print(count / seconds)
"""


class Target(asyncio.Protocol):
    """Answers each request at once; and says at /count how many they were."""

    count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET /count"):
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n%12d" % Target.count)
        else:
            Target.count += 1
            self._transport.write(ANSWER)


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Target, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def target() -> Iterator[str]:
    words = [sys.executable, "-m", "benchmarks.bench_loadtest", "serve"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.kill()


def counted(url: str) -> int:
    with urlopen(f"{url}/count") as answer:
        return int(answer.read())


def plain(url: str) -> float:
    """Requests a second of plain Locust."""
    words = [sys.executable, "-c", PLAIN, url, str(USERS), str(SECONDS)]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return float(re.findall(r"[\d.]+$", said.strip())[0])


def ours(url: str) -> float:
    """Requests a second of the load tester, each of them observed."""
    before = counted(url)
    config = RunConfig(url, Plan.of("p", per_second=1_000_000), ("keys",), users=USERS, seconds=SECONDS, requests=10**9)
    seen = [one for one in run(config, [KEY], lambda _: None).observations if one.decided]
    served = counted(url) - before
    # Those in flight at the end may be answered, and are unfinished.
    assert served - USERS <= len(seen) <= served, (len(seen), served)
    return len(seen) / ((max(one.ended_us for one in seen) - min(one.sent_us for one in seen)) / 1e6)


def main() -> None:
    with target() as url:
        rounds = [(plain(url), ours(url)) for _ in range(ROUNDS)]
    locusts, testers = (median(side) for side in zip(*rounds, strict=True))
    print("\n## The load tester beside plain Locust\n")
    print(f"{USERS} users against one process of asyncio, {SECONDS} s, medians of {ROUNDS} rounds in turn.\n")
    print("| requests a second | |\n| --- | --- |")
    print(f"| Locust, FastHttpUser | {locusts:,.0f} |")
    print(f"| awx-ratelimit loadtest, every request observed | {testers:,.0f} |")
    print(f"| ratio (at least 0.9 is promised) | {testers / locusts:.2f} |")


if __name__ == "__main__":
    asyncio.run(serve()) if sys.argv[1:] == ["serve"] else main()
