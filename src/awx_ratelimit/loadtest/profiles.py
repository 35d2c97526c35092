"""The profiles by name, and the user that carries out each."""

from awx_ratelimit.loadtest.crowd_users import Flood, Isolation, Keys, Soak, Streams, WebSockets
from awx_ratelimit.loadtest.order import PROFILES
from awx_ratelimit.loadtest.rate_users import Burst, Over, Refusals, Square, Steady, Wait, Window
from awx_ratelimit.loadtest.user import Profile

_CLASSES: tuple[type[Profile], ...] = (
    Steady, Burst, Wait, Refusals, Over, Square, Window, Streams, WebSockets, Isolation, Keys, Soak, Flood,
)  # fmt: skip
BY_NAME = {one.name: one for one in _CLASSES}
assert set(PROFILES) < set(BY_NAME)
