"""Log lines that clients can cause are sampled."""

import logging
from typing import Any

from awx_ratelimit.http.sampled_log import SampledLog


def test_one_line_per_interval(caplog: Any) -> None:
    """Lines that were left out are counted, and do not affect other kinds."""
    now_s = [10.0]
    log = SampledLog(logging.getLogger("awx_ratelimit.test"), interval_s=60.0, clock=lambda: now_s[0])
    for now_s[0] in (10.0, 10.0, 69.9, 70.0):
        log.write(logging.WARNING, "a", "it is %s", "so")
    log.write(logging.ERROR, "b", "100%% of %s", "it")

    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "it is so"),
        ("WARNING", "it is so (2 more like this were not logged)"),
        ("ERROR", "100% of it"),
    ]
