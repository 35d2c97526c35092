"""The warning about a server that does not answer when its backend is made: it may start later."""

import logging
from typing import Final

from awx_ratelimit.errors import BackendUnavailable
from awx_ratelimit.runtime.documentation import page
from awx_ratelimit.runtime.looking import is_looking

#: What to do if nobody answers. Only the operator can know whether the server or the URL is wrong.
START_IT: Final = "start it, or correct its address in the URL"
_log = logging.getLogger("awx_ratelimit")


def warn_of_start(error: BackendUnavailable) -> None:
    """Log `error`, and what happens to requests until the server answers. The backend does not know its guard.

    Code that only looks gets the error itself, and has no guard.
    """
    if is_looking():
        return
    _log.warning(
        "no decision yet: %s; %s. Until it answers, a backend that was opened from a URL decides by on_outage, which "
        "is 'local' by default: each process applies its share of each limit. A backend without a guard raises "
        "BackendUnavailable. See %s",
        error,
        START_IT,
        page("outages", "who-decides-meanwhile"),
    )
