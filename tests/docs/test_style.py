"""Pages are easy to read: sentences are short, and a table, an example or a picture interrupts every long text."""

import re
from itertools import groupby

import pytest
from tests.docs.pages import PAGES, text_of

_LONGEST_SENTENCE = 35
_LONGEST_TEXT = 480
#: The first page is a list of links.
_LISTS = {"docs/index.md"}
_PROSE, _CODE, _SHOWN = range(3)


def _lines(page: str) -> list[tuple[int, str]]:
    """The lines of a page, each as prose, code, or what is shown beside prose: a table, a picture, a reference."""
    found, is_code = [], False
    for line in text_of(page).splitlines():
        if re.match(r" *```", line):
            is_code = not is_code
            found.append((_CODE, ""))
        elif is_code:
            found.append((_CODE, ""))
        else:
            found.append((_SHOWN if re.match(r" *(\||!\[|:::)", line) else _PROSE, line))
    return found


def _sentences(page: str) -> list[str]:
    """The sentences of a page, with one word for each piece of code and without the targets of links."""
    text = "\n".join(line for kind, line in _lines(page) if kind != _CODE)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", re.sub(r"`[^`]*`", "X", text))
    parts = re.split(r"\n(?= *(?:[-*#>|]|\d+\.|\n))|\||(?<=[.!?:;])\s+", text)
    return [" ".join(part.split()) for part in parts]


@pytest.mark.parametrize("page", PAGES)
def test_sentences(page: str) -> None:
    """Nobody has to read a sentence twice: none has more than 35 words."""
    assert [each for each in _sentences(page) if len(re.findall(r"\w[\w'.,/-]*", each)) > _LONGEST_SENTENCE] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page not in _LISTS])
def test_long_texts(page: str) -> None:
    """No page has two screens of prose without a table, an example or a picture."""
    runs = groupby(_lines(page), lambda line: line[0])
    texts = [" ".join(line for _, line in lines) for kind, lines in runs if kind == _PROSE]

    assert [text[:80] for text in texts if len(text.split()) > _LONGEST_TEXT] == []
