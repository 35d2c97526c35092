"""For tests: a clock that stands still until it is told, and the contract kits that backends and adapters inherit."""

from awx_ratelimit.testing.adapter_contract import AdapterContract
from awx_ratelimit.testing.backend_contract import BackendContract
from awx_ratelimit.testing.clock import ManualClock
from awx_ratelimit.testing.frozen import frozen, rate_limits

__all__ = ["AdapterContract", "BackendContract", "ManualClock", "frozen", "rate_limits"]
