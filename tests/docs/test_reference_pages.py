"""The pages of the reference that are not about Python name what exists: codes, commands, calls and settings."""

import re
import subprocess
import sys

import pytest
from tests.docs.pages import ROOT, prose, text_of

from awx_ratelimit import errors
from awx_ratelimit.backends import open as opening
from awx_ratelimit.backends.redis import url
from awx_ratelimit.http import error_responses
from awx_ratelimit.loadtest import run_config

CODES = [error_responses.EXCEEDED, *error_responses._ERRORS]
_OF_EXCEPTIONS = {getattr(each, "code", None) for each in vars(errors).values() if isinstance(each, type)}
#: Those that no response has.
EXCEPTIONS = sorted(code for code in _OF_EXCEPTIONS if isinstance(code, str) and code not in CODES)


def section_of(code: str) -> str:
    """The section of docs/errors.md about a code."""
    found = re.search(rf"^### {code}\n(.*?)(?=^##|\Z)", text_of("docs/errors.md"), re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/errors.md has no heading {code}"
    return found[1]


@pytest.mark.parametrize("code", CODES)
def test_code_of_a_response(code: str) -> None:
    """The page of errors has a section for each code, with its status, its type and its message."""
    section = section_of(code)

    assert f"Status {error_responses.status_of(code)}, " in section
    if code != error_responses.EXCEEDED:
        assert f"type `{error_responses._ERRORS[code].type}`" in section
        assert f"`{error_responses.message_of(code)}`" in section


@pytest.mark.parametrize("code", EXCEPTIONS)
def test_code_of_an_exception(code: str) -> None:
    """The page of errors has a section for the code of each exception."""
    assert section_of(code).strip()


def test_codes_that_exist() -> None:
    """The page of errors has no section for a code that does not exist."""
    assert set(re.findall(r"^### (\S+)$", text_of("docs/errors.md"), re.MULTILINE)) == {*CODES, *EXCEPTIONS}


def test_written_pages() -> None:
    """The pages of the command line and of the REST API are as the program writes them."""
    checked = subprocess.run(
        [sys.executable, str(ROOT / "tools/reference_pages.py"), "--check"], capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_variables() -> None:
    """The page of settings has each environment variable that the package reads, and no other of our own."""
    texts = [path.read_text() for path in (ROOT / "src").rglob("*.py") if "testing" not in path.parts]
    read = set(re.findall(r"\"(AWX_[A-Z_]+|PROMETHEUS_[A-Z_]+)\"", "\n".join(texts))) - {"AWX_RATELIMIT"}
    table = prose("docs/reference/settings.md").split("## Environment variables")[1].split("## Logs")[0]

    assert set(re.findall(r"`((?:AWX|PROMETHEUS)_[A-Z_]+)`", table)) == read


def test_options_of_urls() -> None:
    """The page of settings has each option in the URL of a backend."""
    named = set(re.findall(r"`([a-z_]+)`", prose("docs/reference/settings.md")))
    known = {*opening._OPTIONS, *url._OPTIONS, *url._DATABASE, *url._TLS_OPTIONS, *url._SENTINEL_OPTIONS}

    assert known | {"allow_other_users", "schema"} <= named


def test_laws() -> None:
    """The page of laws has each law of the contract, in order."""
    contract = "".join(path.read_text() for path in (ROOT / "src/awx_ratelimit/testing").rglob("*.py"))
    laws = sorted({int(number) for number in re.findall(r"def test_law_(\d+)_", contract)})

    assert [
        int(number) for number in re.findall(r"^(\d+)\. \*\*", text_of("docs/reference/laws.md"), re.MULTILINE)
    ] == laws


def test_profiles() -> None:
    """The page about load tests has each profile, in the order in which they run."""
    table = prose("docs/load-testing.md").split("| profile | what it sends |")[1].split("\n\n")[0]
    rows = [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| `")]

    assert re.findall(r"`(\w+)`", "".join(rows)) == [*run_config.PROFILES, run_config.SOAK]
