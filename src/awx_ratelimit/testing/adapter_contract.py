"""The HTTP contract of every adapter, as tests that you inherit: the same requests get the same bytes.

class TestMyAdapter(AdapterContract):
    def driver(self, backend, **gate):
        return AsgiDriver(lambda app: MyMiddleware(app, gate=AsyncGate(AsyncLimiter(backend), **gate)))
"""

from awx_ratelimit.testing.adapter_laws.keys import KeyLaws
from awx_ratelimit.testing.adapter_laws.responses import ResponseLaws
from awx_ratelimit.testing.adapter_laws.rules import RuleLaws


class AdapterContract(ResponseLaws, KeyLaws, RuleLaws):
    """Inherit from this class and define `driver`. Each test states one promise about status, headers or body."""
