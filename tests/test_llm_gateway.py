"""The gateway of examples/llm_gateway.py under uvicorn, asked by the client of OpenAI."""

import asyncio
import json
import math
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import uvicorn
from blockbuster import BlockBuster
from examples.llm_gateway import ANSWER_TOKENS, BYTES_PER_TOKEN, MAX_BODY_BYTES, PLANS, create_app
from examples.llm_models import Model, Order, Part, counter, upstream
from starlette.testclient import TestClient
from tests.docs.pages import blocks, gate_of, run
from tests.machine import eventually

from awx_ratelimit import Budget, Limiter, MemoryBackend, PlanTable
from awx_ratelimit.testing import ManualClock, frozen

if TYPE_CHECKING:
    import openai

START_SECONDS = 20.0
DEADLINE_SECONDS = 60.0
pytestmark = pytest.mark.timeout(4 * DEADLINE_SECONDS)
ADA, BOB, EVE = "awx_demo_ada", "awx_demo_bob", "awx_demo_eve"
KEY_TOKENS, ACCOUNT_TOKENS, MONTH_TOKENS = 600, 1_000, 2_000


@pytest.fixture(scope="module", autouse=True)
def _client_of_openai() -> None:
    """Import it in the one worker that uses it: this takes an eighth of the time in which tests are collected."""
    globals()["openai"] = import_module("openai")


def table(key_tokens: int = KEY_TOKENS, account_tokens: int = ACCOUNT_TOKENS) -> PlanTable:
    """The limits of the example, with small numbers."""
    account = [
        {"limit": account_tokens, "per": "minute", "measure": "tokens"},
        {"limit": 2 * account_tokens, "per": "month", "measure": "tokens"},
    ]
    team = {
        "per_minute": 10,
        "rates": [{"limit": key_tokens, "per": "minute", "measure": "tokens"}],
        "concurrent": 2,
        "account": {"per_minute": 15, "rates": account, "concurrent": 3},
    }
    return PlanTable.from_mapping({"default": "team", "plans": {"team": team}})


class Gateway:
    """A gateway with a clock of its own, under uvicorn in a thread."""

    def __init__(self, model: Model = counter, plans: PlanTable | None = None) -> None:
        self.clock = ManualClock(int(datetime(2026, 11, 29, tzinfo=UTC).timestamp() * 1000))
        backend = MemoryBackend(clock=self.clock)
        self.plans = plans or table()
        self.app = create_app(model, plans=self.plans, backend=backend)
        self._limiter = Limiter(backend)
        self.url = ""

    def client(self, key: str = ADA, *, max_retries: int = 0) -> "openai.OpenAI":
        """A client that does not retry by default."""
        http_client = httpx2.Client(trust_env=False, timeout=DEADLINE_SECONDS)
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=max_retries, http_client=http_client)

    def left(self) -> dict[str, int]:
        """What is left of each limit of Ada's key, and of her organisation."""
        (plan,) = self.plans.plans
        assert plan.account is not None
        decision = self._limiter.peek("ada", plan, also=[Budget("acme", plan.account, scope="account")])
        return {usage.limit: usage.remaining for usage in decision.usages}

    def becomes(self, **expected: int) -> dict[str, int]:
        """What is left of these limits, as soon as it is `expected`. The settlement follows the last byte."""
        return eventually(lambda: {name: self.left()[name] for name in expected}, expected, DEADLINE_SECONDS)

    @contextmanager
    def served(self) -> Iterator["Gateway"]:
        """Serve it on a free port."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            config = uvicorn.Config(self.app, log_level="critical", timeout_graceful_shutdown=1)
            server = uvicorn.Server(config)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
            thread.start()
            assert eventually(lambda: server.started, expected=True, seconds=START_SECONDS)
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            try:
                yield self
            finally:
                server.should_exit = True
                thread.join(DEADLINE_SECONDS)


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    """The gateway of the model that counts."""
    with Gateway().served() as served:
        yield served


def ask(client: "openai.OpenAI", text: str, **options: Any) -> Any:
    """Send one message."""
    messages: Any = [{"role": "user", "content": text}]
    return client.chat.completions.create(model="counter", messages=messages, **options)


def ask_raw(client: "openai.OpenAI", text: str, **options: Any) -> Any:
    """As `ask`, for the response with its headers."""
    messages: Any = [{"role": "user", "content": text}]
    return client.chat.completions.with_raw_response.create(model="counter", messages=messages, **options)


def prompt_tokens(request: httpx2.Request) -> int:
    """The prompt as the gateway estimates it."""
    return len(request.content) // BYTES_PER_TOKEN


def reported(headers: Any) -> dict[str, int]:
    """What the header RateLimit says is left of each limit."""
    items = [item.split(";") for item in headers["ratelimit"].split(", ")]
    return {name.strip('"'): int(left.removeprefix("r=")) for name, left, *_ in items}


def test_answer(gateway: Gateway) -> None:
    """A request reports the estimate it was charged, and the next one reports what the first has really used."""
    with gateway.client() as client:
        first = ask_raw(client, "Count to 5")
        assert gateway.becomes(**{"tokens-minute": KEY_TOKENS - 8}) == {"tokens-minute": KEY_TOKENS - 8}
        second = ask_raw(client, "Count to 5")

    answer = first.parse()
    estimate = prompt_tokens(first.http_request) + ANSWER_TOKENS
    assert answer.choices[0].message.content == "1 2 3 4 5"
    assert answer.usage.total_tokens == 8
    assert reported(first.headers) == {
        "minute": 9,
        "tokens-minute": KEY_TOKENS - estimate,
        "account.minute": 14,
        "account.tokens-minute": ACCOUNT_TOKENS - estimate,
        "account.tokens-month": MONTH_TOKENS - estimate,
        "concurrent": 1,
        "account.concurrent": 2,
    }
    assert reported(second.headers) == {
        "minute": 8,
        "tokens-minute": KEY_TOKENS - 8 - estimate,
        "account.minute": 13,
        "account.tokens-minute": ACCOUNT_TOKENS - 8 - estimate,
        "account.tokens-month": MONTH_TOKENS - 8 - estimate,
        "concurrent": 1,
        "account.concurrent": 2,
    }


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}], ids=["text", "text and usage"])
def test_stream(gateway: Gateway, options: dict[str, Any]) -> None:
    """A stream costs what it has used, and sends the usage only to a client that asks for it."""
    with gateway.client() as client, ask(client, "Count to 200", stream=True, **options) as stream:
        parts = list(stream)

    text = "".join(choice.delta.content or "" for part in parts for choice in part.choices)
    usages = [part.usage.total_tokens for part in parts if not part.choices]
    assert text.split() == [str(number) for number in range(1, 201)]
    assert usages == ([203] if options else [])
    expected = {"tokens-minute": KEY_TOKENS - 203, "account.tokens-month": MONTH_TOKENS - 203, "concurrent": 2}
    assert gateway.becomes(**expected) == expected


def test_overdraft(gateway: Gateway) -> None:
    """An answer that is longer than its estimate is paid for by the next request, which waits exactly that long."""
    with gateway.client() as client:
        ask(client, "Count to 1000")
        assert gateway.becomes(**{"tokens-minute": 0}) == {"tokens-minute": 0}
        with pytest.raises(openai.RateLimitError) as refused:
            ask(client, "Count to 5")
        response = refused.value.response
        missing = 1_003 + prompt_tokens(response.request) + ANSWER_TOKENS - KEY_TOKENS
        wait_ms = math.ceil(missing * 60_000 / KEY_TOKENS)
        gateway.clock.advance(wait_ms - 1)
        with pytest.raises(openai.RateLimitError):
            ask(client, "Count to 5")
        gateway.clock.advance(1)
        answer = ask(client, "Count to 5")

    assert response.headers["retry-after"] == str(math.ceil(wait_ms / 1000))
    assert answer.usage.total_tokens == 8


def test_refusal(gateway: Gateway) -> None:
    """A refusal is the error of OpenAI's client, with its code and the name of the limit."""
    with gateway.client() as client:
        ask(client, "Count to 500")
        assert gateway.becomes(**{"tokens-minute": KEY_TOKENS - 503}) == {"tokens-minute": KEY_TOKENS - 503}
        with pytest.raises(openai.RateLimitError) as refused:
            ask(client, "Count to 5", stream=True)

    error = refused.value
    assert error.code == "rate_limit_exceeded"
    wait = error.response.headers["retry-after"]
    expected = f"Over the limit tokens-minute, account.tokens-minute. Retry after {wait} s."
    assert error.body == {"code": "rate_limit_exceeded", "message": expected}


def test_client_waits(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenAI's client waits once, for Retry-After, and then gets its answer."""
    waits_s: list[float] = []

    def sleep(seconds: float) -> None:
        waits_s.append(seconds)
        gateway.clock.advance(round(seconds * 1000))

    monkeypatch.setattr("openai._base_client.time", SimpleNamespace(sleep=sleep, time=time.time))
    with gateway.client(max_retries=5) as client:
        ask(client, "Count to 500")
        gateway.becomes(**{"tokens-minute": KEY_TOKENS - 503})
        raw = ask_raw(client, "Count to 5")

    missing = 503 + prompt_tokens(raw.http_request) + ANSWER_TOKENS - KEY_TOKENS
    assert waits_s == [math.ceil(missing * 60 / KEY_TOKENS)]
    assert raw.parse().usage.total_tokens == 8


def test_keys_of_an_organisation(gateway: Gateway) -> None:
    """Two keys share the tokens of their organisation, and a key of another one does not."""
    with gateway.client(ADA) as ada, gateway.client(BOB) as bob, gateway.client(EVE) as eve:
        ask(ada, "Count to 500")
        expected = {"account.tokens-minute": ACCOUNT_TOKENS - 503}
        assert gateway.becomes(**expected) == expected
        with pytest.raises(openai.RateLimitError, match=r"Over the limit account\.tokens-minute\."):
            ask(bob, "Count to 5")
        answer = ask(eve, "Count to 5")

    assert answer.usage.total_tokens == 8


def test_month(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the month's tokens are used up, the client gives up at once, and is admitted when the next month begins."""
    waits_s: list[float] = []
    monkeypatch.setattr("openai._base_client.time", SimpleNamespace(sleep=waits_s.append, time=time.time))
    with gateway.client(max_retries=5) as client:
        for number in range(1, 4):
            ask(client, "Count to 500")
            expected = {"account.tokens-month": MONTH_TOKENS - 503 * number}
            assert gateway.becomes(**expected) == expected
            gateway.clock.advance(120_000)
        with pytest.raises(openai.RateLimitError, match=r"Over the limit account\.tokens-month\.") as refused:
            ask(client, "Count to 5")
        retry_after_s = int(refused.value.response.headers["retry-after"])
        gateway.clock.advance(retry_after_s * 1000)
        answer = ask(client, "Count to 5")

    assert waits_s == []
    assert retry_after_s == 2 * 86_400 - 3 * 120
    assert answer.usage.total_tokens == 8


async def stuck(order: Order) -> AsyncIterator[Part]:
    """A model that stops after three words."""
    answer = counter(order)
    for _ in range(3):
        yield await anext(answer)
    await asyncio.Event().wait()


def test_abandoned_stream() -> None:
    """A client that hangs up pays for its prompt and for what it got, and its slot is free again."""
    with Gateway(stuck).served() as gateway, gateway.client() as client:
        with ask(client, "Count to 200", stream=True) as stream:
            words = [next(stream).choices[0].delta.content for _ in range(3)]
            during = gateway.left()
        used = prompt_tokens(stream.response.request) + 3
        expected = {"tokens-minute": KEY_TOKENS - used, "account.tokens-month": MONTH_TOKENS - used, "concurrent": 2}

        assert words == ["1 ", "2 ", "3 "]
        assert during["tokens-minute"] == KEY_TOKENS - (used - 3 + ANSWER_TOKENS)
        assert during["concurrent"] == 1
        assert gateway.becomes(**expected) == expected


async def dead(_: Order) -> AsyncIterator[Part]:
    """A model that fails before it has said anything."""
    raise ConnectionResetError
    yield {}


def test_dead_stream() -> None:
    """A request that nobody settles keeps its estimate."""
    with Gateway(dead).served() as gateway, gateway.client() as client:
        with pytest.raises(openai.InternalServerError) as failed:
            ask(client, "Count to 200", stream=True)
        left = KEY_TOKENS - prompt_tokens(failed.value.response.request) - ANSWER_TOKENS

        expected = {"tokens-minute": left, "concurrent": 2}
        assert gateway.becomes(**expected) == expected


def test_slots() -> None:
    """An organisation has only so many streams at a time, whichever of its keys they use."""
    plans = table(key_tokens=6_000, account_tokens=10_000)
    with Gateway(stuck, plans).served() as gateway, ExitStack() as stack:
        ada, bob = (stack.enter_context(gateway.client(key)) for key in (ADA, BOB))
        for client in (ada, ada, bob):
            next(stack.enter_context(ask(client, "Count to 200", stream=True)))
        with pytest.raises(openai.RateLimitError, match=r"Over the limit concurrent, account\.concurrent\."):
            ask(ada, "Count to 5")
        with pytest.raises(openai.RateLimitError, match=r"Over the limit account\.concurrent\."):
            ask(bob, "Count to 5")


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{", 400),
        (b"[" * 100_000, 400),
        (b'{"messages": "Count to 5"}', 400),
        (b'{"messages": []}', 400),
        (b"x" * (MAX_BODY_BYTES + 1), 413),
        (iter([b'{"messages": [{}]}']), 411),
    ],
    ids=["not JSON", "deep", "no list", "no message", "too long", "no length"],
)
def test_invalid_request(content: Any, status: int) -> None:
    """A request that never reaches the model costs no tokens."""
    plans = table(key_tokens=1_000_000, account_tokens=1_000_000)
    with Gateway(plans=plans).served() as gateway:
        headers = {"Authorization": f"Bearer {ADA}"}
        url = f"{gateway.url}/v1/chat/completions"
        with httpx2.Client(trust_env=False, timeout=DEADLINE_SECONDS) as http:
            response = http.post(url, content=content, headers=headers)
        expected = {"tokens-minute": 1_000_000, "account.tokens-month": 2_000_000, "minute": 9}

        assert response.status_code == status
        assert json.loads(response.content)["error"]["code"] == "invalid_request"
        assert gateway.becomes(**expected) == expected


def test_request_that_can_never_pass(gateway: Gateway) -> None:
    """A prompt that is longer than the tokens of a minute is refused without Retry-After."""
    with gateway.client() as client, pytest.raises(openai.RateLimitError, match="No wait helps") as refused:
        ask(client, "x" * 1_000)

    assert "retry-after" not in refused.value.response.headers


def test_real_upstream(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """In front of another server of OpenAI's API the gateway passes on answers and streams, and what they have cost."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    behind = upstream(f"{gateway.url}/v1/", EVE)
    with Gateway(behind).served() as front, front.client() as client:
        answer = ask(client, "Count to 5")
        with ask(client, "Count to 60", stream=True) as stream:
            parts = list(stream)
        expected = {"tokens-minute": KEY_TOKENS - 8 - 63}
        settled = front.becomes(**expected)

    text = "".join(choice.delta.content or "" for part in parts for choice in part.choices)
    assert answer.choices[0].message.content == "1 2 3 4 5"
    assert text.split() == [str(number) for number in range(1, 61)]
    assert [part for part in parts if not part.choices] == []
    assert settled == expected


def test_upstream_that_refuses(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the other server refuses, the client gets a 502 and pays no tokens, also for a stream."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    behind = upstream(f"{gateway.url}/v1/", "awx_wrong")
    with Gateway(behind).served() as front, front.client() as client:
        for is_stream in (False, True):
            with pytest.raises(openai.InternalServerError, match="The model answered with status 401"):
                ask(client, "Count to 5", stream=is_stream)
            expected = {"tokens-minute": KEY_TOKENS, "concurrent": 2}

            assert front.becomes(**expected) == expected


def test_plans_of_the_page() -> None:
    """The page shows the plans of the example, and its rates have a name for each key and each organisation."""
    (plan,) = PlanTable.from_toml(PLANS).plans

    assert blocks("docs/llm.md", "toml") == [PLANS.read_text().partition("\n")[2]]
    assert plan.account is not None
    assert [rate.name for rate in plan.rates] == ["minute", "tokens-minute"]
    assert [rate.name for rate in plan.account.rates] == ["minute", "tokens-minute", "tokens-month"]


def test_code_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nothing_blocks_the_event_loop: BlockBuster
) -> None:
    """The code of the page charges the estimate, and in its place what the answer has used."""
    # `plans="plans.toml"` looks at the file once a second.
    nothing_blocks_the_event_loop.deactivate()
    monkeypatch.chdir(tmp_path)
    Path("plans.toml").write_text(blocks("docs/llm.md", "toml")[0])
    app = run("docs/llm.md")["app"]
    client = TestClient(app, headers={"Authorization": "Bearer awx_example_key"})

    order = json.dumps({"messages": [{"role": "user", "content": "count to me"}]}).ljust(400)
    with frozen(gate_of(app)):
        answers = [client.post("/v1/chat/completions", content=order) for _ in range(2)]

    left = [reported(answer.headers)["account.tokens-minute"] for answer in answers]
    assert [answer.text for answer in answers] == ["count to me "] * 2
    # 11 characters of the prompt and 12 of the answer are 5 tokens.
    assert left == [50_000 - 600, 50_000 - 5 - 600]
