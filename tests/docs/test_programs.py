"""The whole programs of pages, with a login, a console and keys, run as files of their own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.core.asgi import get_asgi_application
from starlette.testclient import TestClient
from tests.docs.pages import blocks, run_text
from werkzeug.test import Client

from awx_ratelimit import RateLimitMiddleware, StoredKeys, UsageHistory
from awx_ratelimit.keys import KeyService, KeyStore, KeyVerifier

ANN = {"email": "ann@acme.example", "password": "correct horse"}
GUESS = {"email": "ann@acme.example", "password": "incorrect donkey"}
SITE = "https://localhost"
#: The host of werkzeug's client, and a quick hash of passwords.
SETTINGS = """
ALLOWED_HOSTS = ["localhost"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
"""
#: A project of Django with the console in its wsgi.py, which prints what a visitor, a user and the user's key get.
VISITS = """
from django.contrib.auth import get_user_model
from django.core.management import call_command
from shop.wsgi import application
from werkzeug.test import Client

call_command("migrate", verbosity=0)
get_user_model().objects.create_user("ann", password="correct horse")
client = Client(application)
visit = client.get("/console/")
form = client.get(visit.headers["location"])
token = form.get_data(as_text=True).partition('name="csrfmiddlewaretoken" value="')[2].partition('"')[0]
sent = {"username": "ann", "password": "correct horse", "csrfmiddlewaretoken": token, "next": "/console/"}
login = client.post("/accounts/login/", data=sent)
print(visit.status_code, form.status_code, login.status_code, login.headers["location"])
page = client.get("/console/")
print(page.status_code, "ann" in page.get_data(as_text=True))
print(client.get("/accounts/logout/").status_code, client.get("/console/").status_code, client.get("/").status_code)
user = {"username": "ann", "password": "correct horse"}
token = client.post("/accounts/token/", data=user, buffered=True).get_data(as_text=True)
made = client.post("/api/v1/api-keys", json={"name": "first-key"}, headers={"Authorization": f"Bearer {token}"})
admitted = client.get("/agents", headers={"X-API-Key": made.get_json()["key"]})
print(made.status_code, admitted.status_code, '"agents.minute";r=29' in admitted.headers["ratelimit"])
guess = {**user, "password": "incorrect donkey"}
print([client.post("/accounts/token/", data=guess, buffered=True).status_code for _ in range(6)])
"""

#: A key, and two requests of the project in shop.py under each protocol.
STORED = """
import os
import django
from asgiref.sync import async_to_sync
from django.test import AsyncClient, Client
import shop
from awx_ratelimit.keys import KeyService

django.setup()
keys = KeyService(shop.store)
keys.accounts.ensure("acct_acme", plan="starter")
key = keys.create("acct_acme", "first-key").secret.reveal()
sync, client = Client(), AsyncClient()
ways = (sync.get, lambda path, **options: async_to_sync(client.get)(path, **options))
for get in ways:
    subject = get("/agents", headers={"X-API-Key": key}).json()["key"]
    print(get("/health").status_code, get("/agents").status_code, subject[:4])
    print([get("/report", headers={"X-API-Key": key}).status_code for _ in range(3)])
"""


@contextmanager
def flask_program() -> Iterator[dict[str, Any]]:
    """The program of docs/flask.md."""
    names = run_text(blocks("docs/flask.md", "python")[-1])
    yield names
    names["verifier"].close()
    names["store"].close()


def test_flask_console() -> None:
    """A visitor of the console is sent to the login, and a user who has logged in sees it until the logout."""
    with flask_program() as names:
        client = Client(names["app"])
        visit = client.get("/console/", base_url=SITE)
        login = client.post("/login", data=ANN, base_url=SITE)
        page = client.get("/console/", base_url=SITE)
        client.get("/logout", base_url=SITE)
        after = client.get("/console/", base_url=SITE)

    assert (visit.status_code, visit.headers["location"]) == (303, "/login")
    assert login.headers["location"] == "/console/"
    assert page.status_code == 200
    assert "ann@acme.example" in page.get_data(as_text=True)
    assert after.status_code == 303


def test_flask_keys() -> None:
    """With the token of a user, the REST API creates a key, which the app admits."""
    with flask_program() as names:
        client = Client(names["app"])
        token = client.post("/token", data=ANN).get_data(as_text=True)
        made = client.post(
            "/api/v1/api-keys", json={"name": "first-key"}, headers={"Authorization": f"Bearer {token}"}
        ).get_json()
        admitted = client.get("/agents", headers={"X-API-Key": made["key"]})
        refused = client.get("/agents")

    assert admitted.status_code == 200
    assert '"agents.minute";r=29' in admitted.headers["ratelimit"]
    assert refused.status_code == 401


def test_guesses_in_flask() -> None:
    """Five wrong passwords a minute are checked, on the page and for tokens together; right ones do not count."""
    with flask_program() as names:
        client = Client(names["app"])
        # `buffered` closes the response, which gives the charge of a login back.
        statuses = [client.post("/login", data=ANN, base_url=SITE, buffered=True).status_code for _ in range(6)]
        guesses = [client.post(path, data=GUESS, buffered=True).status_code for path in ("/login", "/token") * 3]

    assert statuses == [303] * 6
    assert guesses == [401] * 5 + [429]


@contextmanager
def fastapi_client() -> Iterator[TestClient]:
    """A client of the program of docs/fastapi.md."""
    names = run_text(blocks("docs/fastapi.md", "python")[-1])
    with TestClient(names["app"], base_url=SITE, follow_redirects=False) as client:
        yield client


def test_fastapi_console() -> None:
    """A visitor of the console is sent to the login, and a user who has logged in sees it until the logout."""
    with fastapi_client() as client:
        visit = client.get("/console/")
        form = client.get("/login")
        login = client.post("/login", data=ANN)
        page = client.get("/console/")
        client.get("/logout")
        after = client.get("/console/")

    assert (visit.status_code, visit.headers["location"]) == (303, "/login")
    assert 'name="password"' in form.text
    assert login.headers["location"] == "/console/"
    assert page.status_code == 200
    assert "ann@acme.example" in page.text
    assert after.status_code == 303


def test_fastapi_keys() -> None:
    """With the token of a user, the REST API creates a key, which the app admits."""
    with fastapi_client() as client:
        token = client.post("/token", data=ANN).text
        made = client.post(
            "/api/v1/api-keys", json={"name": "first-key"}, headers={"Authorization": f"Bearer {token}"}
        ).json()
        admitted = client.get("/agents", headers={"X-API-Key": made["key"]})
        refused = client.get("/agents")

    assert admitted.status_code == 200
    assert '"agents.minute";r=29' in admitted.headers["ratelimit"]
    assert refused.status_code == 401


def test_guesses_in_fastapi() -> None:
    """Five wrong passwords a minute are checked, on the page and for tokens together, also for unknown users."""
    with fastapi_client() as client:
        statuses = [client.post("/login", data=ANN).status_code for _ in range(6)]
        guesses = [
            client.post(path, data={**GUESS, "email": email}).status_code
            for email in ("ann@acme.example", "b", "c")
            for path in ("/login", "/token")
        ]

    assert statuses == [303] * 6
    assert guesses == [401] * 5 + [429]


def test_django_console(tmp_path: Path) -> None:
    """The wsgi.py and urls.py of the page work in a new project: login, console, logout, tokens and keys."""
    *_, wsgi, urls = blocks("docs/django.md", "python")
    django = [sys.executable, "-m", "django"]
    subprocess.run([*django, "startproject", "shop", "."], cwd=tmp_path, check=True, timeout=60)
    (tmp_path / "shop/wsgi.py").write_text(wsgi)
    (tmp_path / "shop/urls.py").write_text(urls)
    with (tmp_path / "shop/settings.py").open("a") as settings:
        settings.write(SETTINGS)

    done = subprocess.run(
        [sys.executable, "-c", VISITS], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "303 200 302 /console/",
        "200 True",
        "302 303 401",
        "201 200 True",
        "[401, 401, 401, 401, 401, 429]",
    ]


def test_stored_keys_in_django(tmp_path: Path) -> None:
    """The project with the entry and stored keys works with Django's own servers of both kinds."""
    program = next(block for block in blocks("docs/django.md", "python") if "StoredKeys(KeyVerifier(store))" in block)
    (tmp_path / "shop.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "-c", STORED],
        cwd=tmp_path,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "shop"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    # Both share the limits of the process.
    assert done.stdout.splitlines() == ["200 401 key_", "[200, 200, 200]", "200 401 key_", "[200, 200, 429]"]


def test_operators() -> None:
    """The staff sees what a key has used, in the console and over REST; customers and guesses are refused."""
    names = run_text(next(block for block in blocks("docs/operators.md", "python") if "DispatcherMiddleware" in block))
    names["keys"].accounts.ensure("acct_acme", plan="starter")
    key = names["keys"].create("acct_acme", "first-key").secret.reveal()
    client, ada = Client(names["app"]), {**ANN, "email": "ada@ops.example"}
    admitted = client.get("/agents", headers={"X-API-Key": key}, buffered=True)
    names["history"].flush()
    visit = client.get("/operator/", base_url=SITE)
    login = client.post("/staff/login", data=ada, base_url=SITE, buffered=True)
    page = client.get("/operator/", base_url=SITE).get_data(as_text=True)
    token = client.post("/staff/token", data=ada, buffered=True).get_data(as_text=True)
    asked = {"Authorization": f"Bearer {token}"}
    found = client.get("/api/v1/operator/accounts?order=requests", headers=asked).get_json()["data"]
    guesses = [client.post("/staff/token", data=ANN, buffered=True).status_code for _ in range(6)]
    names["history"].close()
    names["store"].close()

    assert admitted.status_code == 200
    assert (visit.status_code, visit.headers["location"]) == (303, "/staff/login")
    assert login.headers["location"] == "/operator/"
    assert "acct_acme" in page
    assert [(account["id"], account["allowed"]) for account in found] == [("acct_acme", 1)]
    assert guesses == [401] * 5 + [429]


@pytest.mark.parametrize("page", ["docs/flask.md", "docs/fastapi.md"])
def test_secure_cookies(page: str) -> None:
    """The session cookie of each program is for this host and for HTTPS."""
    program = blocks(page, "python")[-1]

    assert "__Host-session" in program
    assert "SECURE=True" in program or "https_only=True" in program


def test_end_of_django(tmp_path: Path) -> None:
    """With the ASGI middleware around Django, the usage history is written at the end of the lifespan."""
    import_module("examples.django_app")
    store = KeyStore.open(tmp_path / "keys.db")
    keys, history = KeyService(store), UsageHistory(store, flush_seconds=3_600)
    keys.accounts.ensure("acct_acme", plan="starter")
    sent = {"X-API-Key": keys.create("acct_acme", "first-key").secret.reveal()}
    stored = StoredKeys(KeyVerifier(store))
    with TestClient(RateLimitMiddleware(get_asgi_application(), keys=stored, listeners=[history])) as client:
        client.get("/", headers=sent)
        before = sum(day.allowed for day in keys.usage.history("acct_acme").items)
    after = sum(day.allowed for day in keys.usage.history("acct_acme").items)
    stored.verifier.close()
    history.close()
    store.close()

    assert (before, after) == (0, 1)
