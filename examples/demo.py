"""The demo: real traffic to `wallet_api` under uvicorn, and a live table of which promises held.

Run it with ``make demo``, or ``python examples/demo.py``; it goes on serving until Ctrl-C. With ``--once`` it ends by
itself: with status 0 when every promise held, with 1 when one did not.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    # A program finds what is in its own folder, and `examples` is in the one above.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    try:
        from examples.demo_run import main

        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
