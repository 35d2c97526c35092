"""The limiters of the integration tests, of both kinds."""

from tests.integration.conftest import open_limiters

__all__ = ["open_limiters"]
