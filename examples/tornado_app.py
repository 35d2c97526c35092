"""A Tornado app, limited as a whole, with its own limit on one handler.

    python -m examples.tornado_app
    curl -i -H 'X-API-Key: awx_demo_starter' localhost:8888/v1/search

A stream or a WebSocket holds one of the key's five slots until it ends or the client disconnects.
"""

import asyncio
import os

from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler

from awx_ratelimit import Rule
from awx_ratelimit.adapters.tornado import RateLimit, limit


class Health(RequestHandler):
    """Exempt, so that a load balancer needs no key."""

    def get(self) -> None:
        """The status."""
        self.write({"status": "ok"})


class Search(RequestHandler):
    """Five a minute for each caller, besides the caller's plan."""

    @limit("5/minute", scope="search")
    def get(self) -> None:
        """What was found."""
        self.write({"found": ["atlas", "borea"]})


class Stream(RequestHandler):
    """A minute of ticks."""

    async def get(self) -> None:
        """Ticks until the client disconnects."""
        for _ in range(600):
            self.write("tick\n")
            await self.flush()
            await asyncio.sleep(0.1)


class Feed(WebSocketHandler):
    """Ticks until the client closes the WebSocket."""

    def open(self) -> None:
        """The first tick."""
        self.write_message("tick")

    def on_message(self, _: str | bytes) -> None:
        """One tick for each message."""
        self.write_message("tick")


def create_app() -> tuple[Application, RateLimit]:
    """Create the app, and its limits."""
    app = Application([("/health", Health), ("/v1/search", Search), ("/v1/stream", Stream), ("/v1/feed", Feed)])
    limits = RateLimit(
        app,
        keys={"awx_demo_starter": "starter", "awx_demo_growth": "growth"},
        rules=[Rule("/health", exempt=True)],
    )
    return app, limits


async def main() -> None:
    """Serve until the process is stopped."""
    app, limits = create_app()
    app.listen(int(os.environ.get("PORT", "8888")), "127.0.0.1")
    try:
        await asyncio.Event().wait()
    finally:
        await limits.aclose()


if __name__ == "__main__":
    asyncio.run(main())
