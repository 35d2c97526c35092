"""Endpoints without a name, such as partials, need a scope in every framework, or they would share a bucket."""

from functools import partial
from typing import Any

import pytest

from awx_ratelimit.adapters import aiohttp, fastapi, flask, quart, sanic, starlette, tornado


async def endpoint(*_: Any) -> None: ...


@pytest.mark.parametrize("framework", [aiohttp, fastapi, flask, quart, sanic, starlette, tornado])
def test_partials(framework: Any) -> None:
    """A partial is refused when the limit is written, unless its scope is given."""
    with pytest.raises(TypeError, match=r"a partial has no name.*write scope='...'"):
        framework.limit("1/minute")(partial(endpoint))

    assert framework.limit("1/minute", scope="named")(partial(endpoint))
