"""A gateway in front of a language model, for every client of OpenAI's API. It limits requests, tokens and streams.

    uvicorn examples.llm_gateway:app
    curl -iN localhost:8000/v1/chat/completions -H 'Authorization: Bearer awx_demo_ada' \
        -d '{"model": "counter", "stream": true, "messages": [{"role": "user", "content": "Count to 20"}]}'

A request is charged an estimate when it arrives. When its response ends, the real usage replaces the estimate. The
model is the small one of llm_models.py. LLM_UPSTREAM=https://llm.example.com/v1/ and LLM_UPSTREAM_KEY name a real one.
LLM_BACKEND is the URL of the limits, such as redis://localhost:6379; without it they live in this process.
"""

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

from examples.llm_models import Model, Order, Part, counter, upstream
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

import awx_ratelimit
from awx_ratelimit import Caller, PlanTable, RateLimitMiddleware, Refusal, Reply, Rule, StaticKeys, settle
from awx_ratelimit.backends.base import Backend

PLANS = Path(__file__).with_name("llm_plans.toml")
#: Published, so only for demonstrations. The keys of an organisation share its limits.
DEMO_KEYS = {
    "awx_demo_ada": Caller("ada", account="acme"),
    "awx_demo_bob": Caller("bob", account="acme"),
    "awx_demo_eve": Caller("eve", account="globex"),
}
MAX_BODY_BYTES = 1_048_576
#: What a request is charged in advance: its length as tokens of the prompt, and this many for the answer.
BYTES_PER_TOKEN, ANSWER_TOKENS = 4, 500


def estimate(request: awx_ratelimit.Request) -> dict[str, int]:
    """What a request will probably use. The body has not arrived yet, so only its length is known."""
    length = request.header("content-length") or ""
    prompt_bytes = min(int(length[:9]), MAX_BODY_BYTES) if length.isascii() and length.isdigit() else 0
    return {"requests": 1, "tokens": prompt_bytes // BYTES_PER_TOKEN + ANSWER_TOKENS}


def over_limit(_: awx_ratelimit.Request, refusal: Refusal) -> Reply:
    """A 429 as OpenAI's clients read it, with the limits that refused. The clients wait for Retry-After themselves."""
    wait = "No wait helps." if refusal.retry_after_s is None else f"Retry after {refusal.retry_after_s} s."
    message = f"Over the limit {', '.join(refusal.limits)}. {wait}"
    return Reply.json(error_body("rate_limit_exceeded", message))


async def complete(request: Request) -> Response:
    """Answer a conversation, whole or as a stream of events."""
    body = await bounded_body(request)
    order = order_in(body)
    answer = metered(request, len(body) // BYTES_PER_TOKEN, request.app.state.model(order))
    # A model that refuses does so here, before the response begins.
    first = await anext(answer)
    if order.get("stream"):
        return StreamingResponse(events(order, first, answer), media_type="text/event-stream")
    return JSONResponse(first)


async def metered(request: Request, tokens: int, answer: AsyncIterator[Part]) -> AsyncIterator[Part]:
    """Pass on the parts of an answer, and note what the request has cost so far; `tokens` is the size of its prompt.

    So a client that hangs up pays for the text it got. If the model fails before its first part, the estimate stands.
    """
    async for part in answer:
        usage = part.get("usage")
        tokens = usage["total_tokens"] if usage else tokens + tokens_of(part)
        settle(request, tokens=tokens)
        yield part


def tokens_of(part: Part) -> int:
    """The tokens of a part of an answer, as far as its length tells. A part may have several."""
    text = "".join(choice.get("delta", {}).get("content") or "" for choice in part.get("choices", ()))
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


async def events(order: Order, first: Part, rest: AsyncIterator[Part]) -> AsyncIterator[str]:
    """Server-sent events. The part that has the usage and no text is only for clients that asked for it."""
    yield event(first)
    async for part in rest:
        if part.get("choices") != [] or wants_usage(order):
            yield event(part)
    yield "data: [DONE]\n\n"


def event(part: Part) -> str:
    """A part as a server-sent event."""
    return f"data: {json.dumps(part)}\n\n"


def wants_usage(order: Order) -> bool:
    """Whether the client has asked for the part with the usage."""
    options = order.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


async def bounded_body(request: Request) -> bytes:
    """Read the body. Its length must be known, because it was charged for, and is at most 1 MiB."""
    if "content-length" not in request.headers:
        raise HTTPException(411, "Send a Content-Length.")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(413, f"Send at most {MAX_BODY_BYTES} bytes.")
    return body


def order_in(body: bytes) -> Order:
    """The order in a body. The model checks the rest of it."""
    try:
        order: Order = json.loads(body)
        if order["messages"] and all(isinstance(message, dict) for message in order["messages"]):
            return order
    except (ValueError, RecursionError, TypeError, LookupError):
        pass
    raise HTTPException(400, "Send a JSON object with a list of messages.")


async def invalid(request: Request, error: Exception) -> Response:
    """Answer a request that never reached the model. It costs no tokens."""
    assert isinstance(error, HTTPException)
    settle(request, tokens=0)
    return JSONResponse(error_body("invalid_request", error.detail), error.status_code, error.headers)


def error_body(code: str, message: str) -> dict[str, object]:
    """An error as clients of OpenAI read it."""
    return {"error": {"code": code, "message": message}}


def create_app(
    model: Model = counter, *, plans: str | Path | PlanTable = PLANS, backend: str | Backend = "memory://"
) -> Starlette:
    """Create the gateway of `model`. With several processes, `backend` is the URL of a file or of Redis."""
    rules = [Rule("/v1/chat/completions", methods=["POST"], cost=estimate)]
    keys = StaticKeys(DEMO_KEYS, bearer=True)
    limits = Middleware(
        RateLimitMiddleware, keys=keys, plans=plans, backend=backend, rules=rules, on_refused=over_limit
    )
    routes = [Route("/v1/chat/completions", complete, methods=["POST"])]
    app = Starlette(routes=routes, middleware=[limits], exception_handlers={HTTPException: invalid})
    app.state.model = model
    return app


app = create_app(
    upstream(os.environ["LLM_UPSTREAM"], os.environ["LLM_UPSTREAM_KEY"]) if "LLM_UPSTREAM" in os.environ else counter,
    backend=os.environ.get("LLM_BACKEND", "memory://"),
)
