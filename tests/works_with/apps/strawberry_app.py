"""Strawberry: GraphQL over ASGI, with a subscription as the stream."""

from collections.abc import AsyncIterator

import strawberry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from strawberry.asgi import GraphQL
from strawberry.subscriptions import GRAPHQL_SSE_PROTOCOL
from tests.works_with.limits import async_ticks, limited


@strawberry.type
class Query:
    @strawberry.field
    def plain(self) -> str:
        return "hello"


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def stream(self) -> AsyncIterator[str]:
        async for piece in async_ticks():
            yield piece.decode()


async def _health(_: Request) -> PlainTextResponse:
    return PlainTextResponse("healthy")


_schema = strawberry.Schema(Query, subscription=Subscription)
_graphql = GraphQL(_schema, subscription_protocols=[GRAPHQL_SSE_PROTOCOL])
app = limited(Starlette(routes=[Route("/health", _health), Mount("/graphql", _graphql)]))
