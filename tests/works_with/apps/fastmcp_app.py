"""FastMCP: tools over streamable HTTP."""

from fastmcp import Context, FastMCP
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from tests.works_with.limits import async_ticks, limited

_mcp = FastMCP("works with")


@_mcp.tool
async def plain() -> str:
    """Return a text."""
    return "hello"


@_mcp.tool
async def stream(context: Context) -> str:
    """Report progress until the test lets it end."""
    async for piece in async_ticks():
        await context.report_progress(1, message=piece.decode())
    return "ended"


@_mcp.custom_route("/health", methods=["GET"])
async def _health(_: Request) -> PlainTextResponse:
    return PlainTextResponse("healthy")


app = limited(_mcp.http_app(stateless_http=True))
