"""A script from another origin can read a refusal if the middleware is in the order of docs/cors.md."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from tests.loadtest.served import UVICORN, serve_app

PAGE = (Path(__file__).parents[2] / "docs" / "cors.md").read_text()
(RIGHT, *_) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
GATE = """
from awx_ratelimit import AsyncGate, AsyncLimiter, MemoryBackend, Plan, PlanTable, StaticKeys

gate = AsyncGate(
    AsyncLimiter(MemoryBackend()),
    plans=PlanTable([Plan.of("starter", per_day=1)]),
    identify=StaticKeys({"awx_example_key": "starter"}),
)
"""
#: With the order reversed, the limiter is the outermost middleware.
WRONG = "app.user_middleware.reverse()\n"
FETCH = """async url => {
    const answers = []
    for (let number = 0; number < 2; number++) {
        try {
            const answer = await fetch(url, {headers: {"X-API-Key": "awx_example_key"}})
            answers.push([answer.status, answer.headers.get("RateLimit"), Number(answer.headers.get("Retry-After"))])
        } catch (error) { answers.push(error.name) }
    }
    return answers
}"""


@pytest.mark.parametrize(("order", "readable"), [("", True), (WRONG, False)], ids=["right", "wrong"])
def test_middleware_order(browser: Browser, tmp_path: Path, order: str, readable: bool) -> None:
    """In the right order a script reads the status and headers of a 429; in the wrong order its preflight fails."""
    snippet = RIGHT.replace('["https://app.example.com"]', '["*"]')
    (tmp_path / "cors_app.py").write_text(GATE + snippet + order)
    with serve_app(UVICORN, "cors_app:app", tmp_path, {"PYTHONPATH": str(tmp_path)}) as url:
        page = browser.new_page()
        page.goto(url.replace("127.0.0.1", "localhost"))
        answers = page.evaluate(FETCH, url)
        page.close()

    if readable:
        assert [answer[0] for answer in answers] == [404, 429]
        assert all(answer[1].startswith('"day";r=0;t=') for answer in answers)
        assert answers[1][2] > 80_000
    else:
        assert answers == ["TypeError", "TypeError"]
