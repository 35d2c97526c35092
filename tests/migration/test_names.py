"""The pages of docs/migration name what exists."""

import ast
import re
from collections.abc import Iterator
from inspect import signature
from typing import Any, get_args

import pytest
from tests.migration.peers import PEERS, Peer
from tools.migration import page_of

from awx_ratelimit import Caller, Plan, Rate, Rule
from awx_ratelimit.adapters.django import DjangoUser
from awx_ratelimit.adapters.django.configuration import _KEYS
from awx_ratelimit.adapters.drf import Throttle
from awx_ratelimit.adapters.fastapi import limit
from awx_ratelimit.http.route_limit import Per

NAMES: dict[str, Any] = {
    **{name.__name__: name for name in (Caller, DjangoUser, Plan, Rate, Rule, Throttle, limit)},
    "plan_of": lambda _: "starter",
}
OPTIONS = {*_KEYS, *get_args(Per), *(name for each in (Caller, Rule, limit) for name in signature(each).parameters)}
#: `"name"`, `"name": value` and `name=value`.
_OPTION = re.compile(r'(?:"(\w+)"(?=:|$)|(\w+)=)')


def spans(peer: Peer) -> list[str]:
    """The code that a page recommends: in the last column of its table of names, and in its advice."""
    starts = ("## What each name becomes", "What to do about it:")
    page = page_of(peer).read_text()
    table, advice = (page.split(f"\n{start}\n")[1].split("\n## ")[0] for start in starts)
    last_cells = [line.strip("| ").split(" | ")[-1] for line in table.splitlines()[2:]]
    return re.findall(r"`([^`]+)`", "\n".join([*last_cells, *re.findall(r"write `[^`]+`|: `limit[^`]+`", advice)]))


def calls(span: str) -> Iterator[ast.Call]:
    """The calls of this library's names in some code, which may be an argument or an item of a mapping."""
    for text in (span.removeprefix("@"), f"dict({span})", f"{{{span}}}"):
        try:
            tree = ast.parse(text)
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).partition(".")[0] in NAMES:
                yield node
        return


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_options(peer: Peer) -> None:
    """Every argument and setting that a page recommends exists."""
    named = [match[1] or match[2] for span in spans(peer) if (match := _OPTION.match(span))]

    assert len(named) > 3
    assert set(named) - OPTIONS - {"dependencies"} == set()


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_calls(peer: Peer) -> None:
    """Every call that a page recommends runs, and if it leaves arguments out, those that it has exist."""
    found = [call for span in spans(peer) for call in calls(span)]

    assert len(found) > 3
    for call in found:
        text = ast.unparse(call)
        if "..." not in text:
            assert eval(text, NAMES), text  # code of our own pages
        else:
            function = eval(ast.unparse(call.func), NAMES)
            signature(function).bind_partial(**{keyword.arg or "": ... for keyword in call.keywords})
