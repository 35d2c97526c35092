"""The laws of every backend, as tests that you inherit.

    class TestMyBackend(BackendContract):
        def backend(self, clock):
            return MyBackend(clock=clock)

The tests are async and cover both kinds of backends. A synchronous backend runs behind `NonBlocking` if it may be
called in an event loop, and in threads if not. The kit needs pytest and anyio's pytest plugin.
"""

import pytest

from awx_ratelimit.testing.backend_laws.leases_and_refunds import LeaseAndRefundLaws
from awx_ratelimit.testing.backend_laws.malformed_claims import MalformedClaimLaws
from awx_ratelimit.testing.backend_laws.plans import PlanLaws
from awx_ratelimit.testing.backend_laws.rates import RateLaws


@pytest.mark.anyio
class BackendContract(RateLaws, PlanLaws, LeaseAndRefundLaws, MalformedClaimLaws):
    """Inherit from this class and define `backend`. Each test states one promise; no test sleeps."""
