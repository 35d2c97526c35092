"""Language models for examples/llm_gateway.py: a small one that counts, and a real one behind a URL.

A model answers an order, which is the JSON of a request to OpenAI's API, with one completion, or in parts if it has
``"stream": true``. A part with ``usage`` says how many tokens the whole answer has used.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
from starlette.exceptions import HTTPException

Order = dict[str, Any]
Part = dict[str, Any]
Model = Callable[[Order], AsyncIterator[Part]]
MAX_COUNT = 1_000
PATH = "chat/completions"


async def counter(order: Order) -> AsyncIterator[Part]:
    """Answers "Count to 5" with "1 2 3 4 5". A word is a token. With ``max_tokens`` it stops there."""
    prompt = " ".join(str(message.get("content")) for message in order["messages"])
    last = int((re.findall("[0-9]{1,4}", prompt) or ["3"])[-1])
    limit = order.get("max_tokens")
    words = [str(number) for number in range(1, 1 + min(last, limit if isinstance(limit, int) else MAX_COUNT))]
    asked, said = len(prompt.split()), len(words)
    usage = {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}
    if not order.get("stream"):
        message = {"role": "assistant", "content": " ".join(words)}
        yield _part("chat.completion", [{"index": 0, "message": message, "finish_reason": "stop"}], usage)
        return
    for word in words:
        # The server learns only from a pause that the client has hung up.
        await asyncio.sleep(0)
        delta = {"role": "assistant", "content": f"{word} "}
        yield _part("chat.completion.chunk", [{"index": 0, "delta": delta, "finish_reason": None}])
    yield _part("chat.completion.chunk", [{"index": 0, "delta": {}, "finish_reason": "stop"}])
    yield _part("chat.completion.chunk", [], usage)


def _part(kind: str, choices: list[dict[str, Any]], usage: dict[str, int] | None = None) -> Part:
    return {
        "id": "chatcmpl-1", "object": kind, "created": 0, "model": "counter", "choices": choices, "usage": usage,
    }  # fmt: skip


def upstream(url: str, key: str) -> Model:
    """The model of any server with OpenAI's API, such as ``https://llm.example.com/v1/``, for the server's `key`."""
    options: Any = {"base_url": url, "headers": {"Authorization": f"Bearer {key}"}, "timeout": 60}
    # Loading the certificates takes too long for each request.
    options["verify"] = httpx2.create_ssl_context()

    async def answer(order: Order) -> AsyncIterator[Part]:
        if order.get("stream"):
            # Its last part then has the usage.
            order = {**order, "stream_options": {"include_usage": True}}
        async with httpx2.AsyncClient(**options) as client, client.stream("POST", PATH, json=order) as response:
            if response.is_error:
                raise HTTPException(502, f"The model answered with status {response.status_code}.")
            if not order.get("stream"):
                yield json.loads(await response.aread())
                return
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    yield json.loads(line.removeprefix("data: "))

    return answer
