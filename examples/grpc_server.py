"""A gRPC server that is limited as a whole. It has no generated code: its messages are bytes.

python -m examples.grpc_server 127.0.0.1:50051
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from awx_ratelimit import Rule
from awx_ratelimit.adapters.grpc import AsyncRateLimitInterceptor


async def hello(name: bytes, _: Any) -> bytes:
    """Greet somebody."""
    return b"hello " + name


async def count(_: bytes, __: Any) -> AsyncIterator[bytes]:
    """Count to three. The slot of the caller is held until the end."""
    for number in (1, 2, 3):
        yield b"%d" % number


async def check(_: bytes, __: Any) -> bytes:
    """Report that the server is healthy. This method is exempt."""
    return b"SERVING"


async def serve(address: str) -> None:
    """Serve until the task is cancelled."""
    interceptor = AsyncRateLimitInterceptor(
        keys={"awx_demo_starter": "starter", "awx_demo_growth": "growth"},
        rules=[Rule("/demo.Health/**", exempt=True), Rule("/demo.Greeter/Count", cost=5)],
    )
    server = grpc.aio.server(interceptors=[interceptor])
    greeter = {
        "Hello": grpc.unary_unary_rpc_method_handler(hello),
        "Count": grpc.unary_stream_rpc_method_handler(count),
    }
    health = {"Check": grpc.unary_unary_rpc_method_handler(check)}
    for service, handlers in (("demo.Greeter", greeter), ("demo.Health", health)):
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port(address)
    await server.start()
    print(f"listening on port {port}", flush=True)
    try:
        await server.wait_for_termination()
    finally:
        await server.stop(1)
        await interceptor.aclose()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
