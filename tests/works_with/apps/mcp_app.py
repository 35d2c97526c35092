"""The MCP SDK: tools over streamable HTTP."""

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from tests.works_with.limits import async_ticks, limited

_mcp = MCPServer("works with")


@_mcp.tool()
async def plain() -> str:
    """Return a text."""
    return "hello"


@_mcp.tool()
async def stream(context: Context) -> str:
    """Report progress until the test lets it end."""
    async for piece in async_ticks():
        await context.report_progress(1, message=piece.decode())
    return "ended"


@_mcp.custom_route("/health", methods=["GET"])
async def _health(_: Request) -> PlainTextResponse:
    return PlainTextResponse("healthy")


# By default it expects a port in the Host header.
_security = TransportSecuritySettings(allowed_hosts=["127.0.0.1"])
app = limited(_mcp.streamable_http_app(stateless_http=True, transport_security=_security))
