"""The examples of the tutorial and of the how-tos do what the pages say."""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.test import RequestFactory
from starlette.testclient import TestClient
from tests.docs.pages import PAGES, blocks, gate_of, run, run_text, text_of
from tests.pytest_runs import run_pytest

from awx_ratelimit import Limiter, PlanTable, open_backend
from awx_ratelimit.cli import main
from awx_ratelimit.keys import KeyService
from awx_ratelimit.testing import frozen

KEY = {"X-API-Key": "awx_example_key"}
#: A code block, the row of a table, or a picture.
_EXAMPLE = re.compile(r"^ *```[a-z]*\n.*?^ *```$|^\|[^\n]*$|!\[[^\]]*\]\([^)]*\)", re.MULTILINE | re.DOTALL)
_REDIS = 'open_async_backend("redis://localhost:6379?expected_workers=4")'


class TestTutorial:
    """docs/tutorial.md: each step, and the whole file at the end."""

    def test_first_steps(self) -> None:
        """60 of 70 requests are admitted, the others refused with a wait; without a key it is a 401."""
        app = run_text(blocks("docs/tutorial.md", "python")[0])["app"]
        with frozen(gate_of(app)):
            client = TestClient(app)
            statuses = [client.get("/agents", headers=KEY).status_code for _ in range(70)]

            assert statuses == [200] * 60 + [429] * 10
            assert client.get("/agents", headers=KEY).headers["retry-after"] == "1"
            assert client.get("/agents").status_code == 401

    def test_plans(self) -> None:
        """The plan table has the plans that the page describes."""
        Path("plans.toml").write_text(blocks("docs/tutorial.md", "toml")[0])
        table = PlanTable.from_toml("plans.toml")

        assert [(plan.name, [rate.tokens for rate in plan.rates]) for plan in table.plans] == [
            ("free", [10]),
            ("team", [300, 500_000]),
        ]

    def test_route(self) -> None:
        """The sixth search in a minute is refused, and costs nothing in the plan."""
        Path("plans.toml").write_text(blocks("docs/tutorial.md", "toml")[0])
        app = run_text("".join(blocks("docs/tutorial.md", "python")[:3]))["app"]
        with frozen(gate_of(app)):
            client = TestClient(app)
            statuses = [client.get("/search?q=a", headers=KEY).status_code for _ in range(6)]
            other = client.get("/other", headers=KEY)

        assert statuses == [200] * 5 + [429]
        assert other.headers["ratelimit"].startswith('"minute";r=94')

    def test_whole_file(self) -> None:
        """A key of the store is admitted, and the console shows it to its owner alone."""
        Path("plans.toml").write_text(blocks("docs/tutorial.md", "toml")[0])
        text = blocks("docs/tutorial.md", "python")[-1]
        assert _REDIS in text
        names = run_text(text.replace(_REDIS, 'open_async_backend("memory://")'))
        keys = KeyService(names["store"])
        keys.accounts.create("acct_acme", plan="team")
        created = keys.create("acct_acme", "first-key")
        with TestClient(names["app"]) as client:
            admitted = client.get("/agents", headers={"X-API-Key": created.secret.reveal()})
            console = client.get("/console/", headers={"cookie": "session=3f9c"})
            stranger = client.get("/console/", headers={"cookie": "session=77ab"})

        assert admitted.status_code == 200
        assert admitted.headers["ratelimit"].startswith('"minute";r=99')
        assert "first-key" in console.text
        assert stranger.status_code == 403


class TestLogin:
    """docs/login-protection.md: three limits of a login."""

    @pytest.fixture
    def names(self) -> dict[str, Any]:
        """The names of the page."""
        return run("docs/login-protection.md")

    @staticmethod
    def statuses(names: dict[str, Any], passwords: list[str], name: str = "ann") -> list[int]:
        """The statuses of logins from one address."""
        with frozen(names["app"]):
            client = TestClient(names["app"])
            return [
                client.post("/login", json={"name": name, "password": password}).status_code for password in passwords
            ]

    def test_wrong_passwords(self, names: dict[str, Any]) -> None:
        """An address can try five wrong passwords a minute."""
        assert self.statuses(names, ["guess"] * 7) == [401] * 5 + [429] * 2

    def test_right_passwords(self, names: dict[str, Any]) -> None:
        """Logins that succeed use up neither the limit of the address nor that of the name."""
        assert self.statuses(names, ["correct horse"] * 30) == [200] * 30

    def test_one_name(self, names: dict[str, Any]) -> None:
        """A name can be guessed twenty times an hour, from any number of addresses."""
        client_of = [TestClient(names["app"], client=(f"192.0.2.{number}", 1)) for number in range(5)]
        wrong = {"name": "ann", "password": "guess"}
        with frozen(names["app"]), frozen(names["limiter"]):
            tried = [client.post("/login", json=wrong).status_code for client in client_of for _ in range(5)]

        assert tried == [401] * 20 + [429] * 5

    def test_flask(self, names: dict[str, Any]) -> None:
        """In Flask, guesses are counted by address and by name, and logins that succeed are not."""
        app = names["flask_app"]

        def statuses(password: str, times: int, host: str) -> list[int]:
            form, environ = {"name": "ann", "password": password}, {"REMOTE_ADDR": host}
            sent = []
            for _ in range(times):
                with app.test_client().post("/login", data=form, environ_base=environ) as response:
                    sent.append(response.status_code)
            return sent

        with frozen(names["backend"]):
            assert statuses("correct horse", 30, "192.0.2.1") == [200] * 30
            assert statuses("guess", 6, "192.0.2.1") == [401] * 5 + [429]
            assert [statuses("guess", 5, f"192.0.2.{number}") for number in range(2, 5)] == [[401] * 5] * 3
            assert statuses("correct horse", 1, "192.0.2.9") == [429]
            assert names["unlock"]("ann") == 0
            assert statuses("correct horse", 1, "192.0.2.9") == [200]
            names["names"].reset("address:192.0.2.1", scope="login")
            assert statuses("correct horse", 1, "192.0.2.1") == [200]

    def test_django(self, names: dict[str, Any]) -> None:
        """In Django, guesses are counted by name, and logins that succeed are not."""
        import_module("examples.django_app")  # configures Django
        users = {"correct horse": object()}
        names["authenticate"] = lambda _, username, password: users.get(password)
        names["login"] = lambda *_: None

        def status(password: str) -> int:
            request = RequestFactory().post("/login", {"name": "ben", "password": password})
            return int(names["django_log_in"](request).status_code)

        with frozen(names["names"]):
            assert [status("correct horse") for _ in range(30)] == [200] * 30
            assert [status("guess") for _ in range(21)] == [401] * 20 + [429]

    def test_unlock_from_a_terminal(
        self, names: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The commands of the page show and reset the limits of a name and of an address."""
        shop, logins = ModuleType("shop"), ModuleType("shop.logins")
        vars(logins).update(names)
        monkeypatch.setitem(sys.modules, "shop", shop)
        monkeypatch.setitem(sys.modules, "shop.logins", logins)
        monkeypatch.delenv("AWX_DATABASE")
        monkeypatch.setenv("AWX_BACKEND", f"host://{Path.cwd()}/limits")
        limiter = Limiter(open_backend(f"host://{Path.cwd()}/limits"))
        limiter.acquire("login:ann", names["BY_NAME"], 3)
        limiter.acquire("address:192.0.2.1", names["BY_ADDRESS"], 5, scope="login")
        lines = [line.split()[1:] for line in blocks("docs/login-protection.md", "sh")[0].splitlines()[1:]]

        assert [main(line) for line in lines] == [0, 0, 0, 0]
        shown = capsys.readouterr().out
        assert re.search(r"^hour +login:ann +requests +3 +17 +20 ", shown, re.MULTILINE)
        assert re.search(r"^login.minute +address:192.0.2.1 \(login\) +requests +5 +0 +5 ", shown, re.MULTILINE)
        assert limiter.peek("login:ann", names["BY_NAME"]).usages[0].remaining == 20
        assert limiter.peek("address:192.0.2.1", names["BY_ADDRESS"], scope="login").usages[0].remaining == 5
        limiter.close()


def test_refused_before_the_model() -> None:
    """A malformed request to a path with an estimate costs one request and no tokens; others keep the estimate."""
    Path("plans.toml").write_text(blocks("docs/llm.md", "toml")[0])
    app = run("docs/llm.md")["app"]
    with frozen(gate_of(app)):
        client = TestClient(app)
        refused = client.post("/v1/summaries", headers=KEY, json={})
        left = client.post("/v1/summaries", headers=KEY, json={"text": "hello"}).headers["ratelimit"]

    assert refused.status_code == 422
    assert '"minute";r=58' in left
    assert '"tokens-minute";r=19496' in left


def test_settling() -> None:
    """A chat is charged its estimate, and has cost what the model has used when it has ended."""
    app = run_text(blocks("docs/settling.md", "python")[0])["app"]
    with frozen(gate_of(app)):
        client = TestClient(app)
        left = [client.post("/chat", headers=KEY).headers["ratelimit"].partition('"tokens";r=')[2] for _ in range(2)]

    assert [int(text.partition(";")[0]) for text in left] == [100_000 - 800, 100_000 - 523 - 800]


def test_older_client() -> None:
    """The first test of docs/testing.md passes with httpx too, in a process without httpx2."""
    program = f"""
import sys
sys.modules["httpx2"] = None
{blocks("docs/testing.md", "python")[0]}
from awx_ratelimit.testing import frozen
with frozen(app) as clock:
    test_the_sixty_first_is_refused(clock)
print(TestClient.__mro__[1].__module__)
"""
    ignoring = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(ignoring, capture_output=True, text=True, check=False, timeout=60)

    assert done.stdout.startswith("httpx"), done.stderr
    assert not done.stdout.startswith("httpx2")


def test_rotation() -> None:
    """The page runs, and leaves one active key."""
    names = run("docs/rotating-keys.md")

    assert [key.status for key in names["keys"].list("acct_acme").items] == ["active"]
    names["verifier"].close()
    names["store"].close()


def test_figures() -> None:
    """The figures of memory and of a host's file, to choose a backend by, are those of the last run."""
    rows = [line for line in text_of("docs/choose-a-backend.md").splitlines() if re.search("`(memory|host):", line)]
    figures = re.findall(r"\d+,\d+|\d+(?= µs)", "".join(rows[:2]))

    assert len(figures) == 5
    assert [each for each in figures if f" {each} |" not in text_of("benchmarks/results/measured.md")] == []


def test_prose_between_examples() -> None:
    """A page has at most two screens of prose between two examples, which are code, tables and pictures."""
    pages = sorted(set(PAGES) - {"docs/index.md"})
    longest = {page: max(len(part.split()) for part in _EXAMPLE.split(text_of(page))) for page in pages}

    assert {page: words for page, words in longest.items() if words >= 500} == {}


def test_expiry_in_tests(tmp_path: Path) -> None:
    """The tests of docs/testing.md for months, expiry and grace periods pass."""
    section = text_of("docs/testing.md").split("## Months, expiry and grace periods")[1].split("\n## ")[0]
    program, tests = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (tmp_path / "shop.py").write_text(program)
    (tmp_path / "test_shop.py").write_text(
        f"from awx_ratelimit import MemoryBackend\nfrom shop import create_app\n{tests}"
    )
    done = run_pytest(tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def test_stored_keys_in_tests(tmp_path: Path) -> None:
    """The tests of docs/testing.md for an app with stored keys pass, and write nothing beside the app."""
    section = text_of("docs/testing.md").split("## An app with stored keys")[1].split("\n## ")[0]
    conftest, program, tests = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "shop.py").write_text(program)
    (tmp_path / "test_shop.py").write_text(f"from shop import keys, shop\n{tests}")
    done = run_pytest(tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    assert [path.name for path in tmp_path.glob("keys.db*")] == []
