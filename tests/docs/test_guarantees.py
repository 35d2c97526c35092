"""docs/guarantees.md names tests that exist, and the README's reasons to switch have their proof there."""

import re
import shlex

import pytest
from tests.docs.pages import ROOT, text_of

PAGE = text_of("docs/guarantees.md")
PYTEST = re.findall(r"`pytest ([^`]*)`", PAGE)
MAKE = re.findall(r"`make ([a-z-]+)[^`]*`", PAGE)
GUARANTEES = re.findall(r"^\| (?!guarantee|---)(.+) \| (.+) \| (.+) \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("command", PYTEST)
def test_pytest(command: str) -> None:
    """The files and folders of a command exist, and so do the tests that it selects."""
    words = shlex.split(command)
    paths = [ROOT / word for word in words if word.startswith("tests/")]
    selected = re.split(r" or | and ", words[words.index("-k") + 1]) if "-k" in words else []

    assert paths
    assert [path for path in paths if not path.exists()] == []
    searched = [*paths, ROOT / "src/awx_ratelimit/testing"] if selected else []
    texts = [file.read_text() for path in searched for file in ([path] if path.is_file() else path.rglob("*.py"))]
    assert all(any(name in text for text in texts) for name in selected)


@pytest.mark.parametrize("target", sorted(set(MAKE)))
def test_make(target: str) -> None:
    """A command of make exists."""
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_proofs() -> None:
    """Every guarantee says what proves it, and names one command."""
    others = [row for row in GUARANTEES if not re.fullmatch(r"`(pytest|make) [^`]+`", row[2])]

    assert len(GUARANTEES) > 40
    assert others == []


def test_reasons_to_switch() -> None:
    """Each of the seven reasons of the README links to its proof."""
    reasons = text_of("README.md").split("## Why switch\n")[1].split("\n\n")[0].splitlines()[2:]

    assert len(reasons) == 7
    assert all(reason.startswith("| [") and "](docs/guarantees.md#" in reason for reason in reasons)
