"""The pages of docs/migration say what clients observe before and after the move."""

import logging
from importlib.metadata import version

import pytest
from tests.migration.peers import PEERS, Peer, row_of, site_before, site_in_shadow
from tests.migration.scenarios import SCENARIOS, Scenario
from tests.migration.sites import Answer, Site
from tools.migration import INDEX, code, overview, page_of, rows_in
from tools.page_parts import part_in

_REMEDY = "write the page with: python tools/migration.py"
_ROWS = [pytest.param(peer, each, id=f"{peer.name}-{each.name}") for peer in PEERS for each in peer.scenarios()]
_LOG = "awx_ratelimit.refusals"
_OF_EACH = pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)


def traffic(site: Site) -> list[Answer]:
    """The responses to some requests, of which a limit of 5 a minute refuses three."""
    return [
        *site.many("/search", 8),
        *site.many("/health", 12),
        *site.many("/nowhere", 2),
        site.get("/notes", x_api_key="awx_invented"),
    ]


@pytest.mark.parametrize(("peer", "scenario"), _ROWS)
def test_scenario(peer: Peer, scenario: Scenario) -> None:
    """The page says of each scenario what a client observes on both libraries."""
    assert rows_in(peer).get(scenario.title) == row_of(peer, scenario), _REMEDY


@_OF_EACH
def test_no_other_rows(peer: Peer) -> None:
    """A page has a line for each scenario, and no other."""
    assert rows_in(peer).keys() == {scenario.title for scenario in peer.scenarios()}, _REMEDY
    assert peer.without <= SCENARIOS.keys()


@_OF_EACH
@pytest.mark.parametrize("name", ["before", "after", "shadow"])
def test_code(peer: Peer, name: str) -> None:
    """A page shows the files that the tests run."""
    assert part_in(page_of(peer).read_text(), name) == code(peer, name), _REMEDY


@_OF_EACH
def test_version(peer: Peer) -> None:
    """A page names the version of the library that was measured."""
    assert part_in(page_of(peer).read_text(), "version") == f"{peer.title} {version(peer.package)}", _REMEDY


def test_overview() -> None:
    """The overview has the rows of all pages."""
    assert part_in(INDEX.read_text(), "overview") == overview(), _REMEDY


@_OF_EACH
def test_shadow(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    """In shadow the limits change no response, and log what they would have refused."""
    with site_before(peer) as site:
        alone = traffic(site)
    with caplog.at_level(logging.WARNING, _LOG), site_in_shadow(peer) as site:
        in_shadow = traffic(site)

    assert in_shadow == alone
    assert [vars(record)["shadow_limits"] for record in caplog.records if record.name == _LOG] == [
        ["shadow-search.minute"]
    ] * 3
