"""The command ``awx-ratelimit``: manage API keys, scan files for keys, inspect limits, and audit gateways.

No other module imports this package. Requires the extra ``cli``.
"""

import sys
from collections.abc import Sequence

from awx_ratelimit.loadtest.key_sources import hide_from_command_line
from awx_ratelimit.runtime.extras import check_versions

_MISSING = "awx-ratelimit needs {name}; install it with: pip install 'awx-ratelimit[cli]'"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. The exit status is 0, 1 if the command found a problem, or 2 for an error."""
    if arguments is None:
        # First, because other users can read the command line until then.
        hide_from_command_line()
    try:
        check_versions("awx-ratelimit", "cli", "rich", "typer")
        from awx_ratelimit.cli.app import run
    except KeyboardInterrupt:
        return 130
    except ImportError as error:
        # Imported here, so that a missing extra is one line and not a traceback.
        message = _MISSING.format(name=error.name) if error.name else str(error)
        print(f"error: {message}", file=sys.stderr)  # noqa: T201  # a command prints
        return 2
    return run(arguments)
