"""docs/containers.md: its image and its manifest fit together, and its addresses are believed rightly."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.applications import Starlette
from starlette.testclient import TestClient
from tests.docs.pages import blocks, gate_of, run_text, text_of

from awx_ratelimit import Plan, RateLimitMiddleware
from awx_ratelimit.keys import KeyStore
from awx_ratelimit.testing import frozen

PAGE = "docs/containers.md"
APP, ADDRESSES, VOLUME = blocks(PAGE, "python")
(DOCKERFILE,) = blocks(PAGE, "dockerfile")
COMMAND = json.loads(re.findall(r"^CMD (.*)$", DOCKERFILE, re.MULTILINE)[0])
(MANIFEST,) = blocks(PAGE, "yaml")
PRIVATE_PEER = "10.0.3.7"
CLIENT, INVENTED = "198.51.100.7", "192.0.2.99"
#: For each option of the page: the peer, and the header that its proxies send for a client that has sent one itself.
CHAINS = {
    "ingress_nginx": ("10.244.1.2", f"{CLIENT}"),
    "aws_load_balancer": (PRIVATE_PEER, f"{INVENTED}, {CLIENT}:50412"),
    "google_load_balancer": ("35.191.4.4", f"{INVENTED},{CLIENT},203.0.113.10"),
    "azure_gateway": ("10.1.0.5", f"{INVENTED}, {CLIENT}:50412"),
    "cloudflare": ("162.158.1.1", f"{INVENTED}, {CLIENT}"),
    "cloudflare_before_aws": (PRIVATE_PEER, f"{INVENTED}, {CLIENT}, 162.158.1.1"),
}
#: Prints the files that a process opens for writing after the app was imported.
WRITTEN = """
import os, sys
opened = []
{app}
sys.addaudithook(lambda event, found: opened.append(found) if event == "open" else None)
from fastapi.testclient import TestClient
with TestClient(app) as client:
    assert client.get("/agents", headers={{"X-API-Key": "awx_example_key"}}).status_code == 200
writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT
print([path for path, _, flags in opened if flags & writing and path != os.devnull])
"""


def option(name: str) -> str:
    """The value of an option of the command in the image."""
    return str(COMMAND[COMMAND.index(name) + 1])


@pytest.fixture
def pod() -> Any:
    """What the manifest says of a pod, and how many there are."""
    return yaml.safe_load(MANIFEST)["spec"]


@pytest.fixture
def container(pod: Any) -> Any:
    """The only container of a pod."""
    (container,) = pod["template"]["spec"]["containers"]
    return container


def test_variables(container: Any) -> None:
    """The manifest and `docker run` set the variables that the app reads."""
    read = set(re.findall(r'os\.environ\["(\w+)"\]', APP))

    assert {each["name"] for each in container["env"]} == read
    assert set(re.findall(r"--env (\w+)=", text_of(PAGE))) == read


def test_folder_of_files() -> None:
    """The user of the app owns the folder that the page names for files on disk."""
    (user,) = re.findall(r"^USER (\d+)$", DOCKERFILE, re.MULTILINE)
    (name,) = re.findall(rf"useradd --uid {user} .*? (\w+) &&", DOCKERFILE)
    (owner, folder) = re.findall(r"install --directory --owner=(\w+) (\S+)", DOCKERFILE)[0]

    assert owner == name
    assert {str(Path(path).parent) for path in re.findall(r"\| `(/var/\S+)` \|", text_of(PAGE))} == {folder}


def test_workers(pod: Any, container: Any) -> None:
    """`expected_workers` is replicas times the workers of the image."""
    (url,) = [each["value"] for each in container["env"] if each["name"] == "LIMITS_URL"]

    assert url.endswith(f"expected_workers={pod['replicas'] * int(option('--workers'))}")


def test_time_to_end(pod: Any, container: Any) -> None:
    """Waiting for proxies, and then for requests, ends before Kubernetes kills the pod."""
    *_, waits_s = container["lifecycle"]["preStop"]["exec"]["command"]

    assert (
        int(waits_s) + int(option("--timeout-graceful-shutdown"))
        < pod["template"]["spec"]["terminationGracePeriodSeconds"]
    )


def test_probes(container: Any) -> None:
    """Both probes ask a path of the app that needs no key, on the port of the image."""
    app = run_text(APP)["app"]

    for probe in (container["readinessProbe"]["httpGet"], container["livenessProbe"]["httpGet"]):
        assert str(probe["port"]) == option("--port")
        assert gate_of(app).is_exempt("GET", probe["path"])
        assert TestClient(app).get(probe["path"]).status_code == 200


@pytest.mark.parametrize("name", CHAINS)
def test_addresses(name: str) -> None:
    """Behind each proxy, the client has one limit, whatever address it invents."""
    peer, header = CHAINS[name]
    app = RateLimitMiddleware(Starlette(), anonymous=Plan.of("anonymous", per_minute=20), **run_text(ADDRESSES)[name])
    with frozen(app.gate):
        client = TestClient(app, client=(peer, 1))
        for invented in (INVENTED, "192.0.2.98"):
            answer = client.get("/", headers={"X-Forwarded-For": header.replace(INVENTED, invented)})
        direct = TestClient(app, client=(CLIENT, 1)).get("/", headers={"X-Forwarded-For": INVENTED})

    assert answer.headers["ratelimit"].startswith('"minute";r=18')
    assert direct.headers["ratelimit"].startswith('"minute";r=17')


def test_every_option_is_tried() -> None:
    """There is a chain for each option of the page."""
    assert set(re.findall(r"^([a-z]\w+) = ", ADDRESSES, re.MULTILINE)) == CHAINS.keys()


def test_written_files() -> None:
    """An app with limits on a server or in memory writes no file."""
    done = subprocess.run(
        [sys.executable, "-c", WRITTEN.format(app=APP)], capture_output=True, text=True, check=False, timeout=60
    )

    assert done.stdout.strip() == "[]", done.stderr


def test_volume(capsys: pytest.CaptureFixture[str]) -> None:
    """A store whose mode `fsGroup` has changed is refused with the message of the page, and accepted as it says."""
    run_text(VOLUME)
    (message,) = re.findall(r"print\(error\)  # (.*?), or \.\.\.", VOLUME)

    assert message in capsys.readouterr().out
    KeyStore.open(f"sqlite:///{Path.cwd()}/keys.db?allow_other_users=true").close()


def test_check_of_the_chain() -> None:
    """From outside, both invented addresses are ignored; from the host of a proxy, each of them is believed."""

    def left(peer: str, sent: str) -> list[str]:
        app = Starlette()
        app.add_middleware(RateLimitMiddleware, anonymous=Plan.of("a", per_minute=20), trusted_proxies=["127.0.0.1"])
        with frozen(app):
            headers = [f"192.0.2.{number}, {sent}" for number in (1, 2)]
            client = TestClient(app, client=(peer, 1))
            responses = [client.get("/", headers={"X-Forwarded-For": each}) for each in headers]
        return [re.findall(r"r=(\d+)", response.headers["ratelimit"])[0] for response in responses]

    assert left("127.0.0.1", CLIENT) == ["19", "18"]
    assert left("127.0.0.1", "127.0.0.1") == ["19", "19"]
