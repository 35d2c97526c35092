"""The profiles by name, and the user that carries out each."""

from awx_ratelimit.loadtest.load.concurrency_profiles import Flood, Isolation, Keys, Soak, Streams, WebSockets
from awx_ratelimit.loadtest.load.rate_profiles import Burst, Over, Refusals, Square, Steady, Wait, Window
from awx_ratelimit.loadtest.load.user import Profile
from awx_ratelimit.loadtest.run_config import PROFILES

_CLASSES: tuple[type[Profile], ...] = (
    Steady, Burst, Wait, Refusals, Over, Square, Window, Streams, WebSockets, Isolation, Keys, Soak, Flood,
)  # fmt: skip
BY_NAME = {one.name: one for one in _CLASSES}
assert set(PROFILES) < set(BY_NAME)
