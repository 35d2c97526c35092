"""The command ``awx-ratelimit``: keys of a store, a search for keys in files, and an audit of a gateway's limits.

Layer 7: nothing imports it. It needs the extra ``cli``.
"""

import sys
from collections.abc import Sequence

from awx_ratelimit.loadtest.key_sources import hide_from_command_line
from awx_ratelimit.runtime.extras import check_versions

_MISSING = "awx-ratelimit needs {name}; install it with: pip install 'awx-ratelimit[cli]'"


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command; the exit status: 0, 1 where something was searched for and found, 2 for an error."""
    if arguments is None:
        # First of all: until then everybody can read it.
        hide_from_command_line()
    try:
        check_versions("awx-ratelimit", "cli", "rich", "typer")
        from awx_ratelimit.cli.app import run
    except KeyboardInterrupt:
        return 130
    except ImportError as error:
        # An import on first use, or whoever lacks the extra would see a traceback.
        what = _MISSING.format(name=error.name) if error.name else str(error)
        print(f"error: {what}", file=sys.stderr)  # noqa: T201  # it is a command
        return 2
    return run(arguments)
