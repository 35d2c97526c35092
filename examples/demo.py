"""The demo: real traffic to `wallet_api` under uvicorn, and a live table of the promises that were kept.

Run it with ``make demo``, or ``python examples/demo.py``; it serves until Ctrl-C. With ``--once`` it ends by
itself: with status 0 if every promise was kept, else with 1.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    # Python looks for modules in the program's own folder; `examples` is in the one above.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    try:
        from examples.demo_run import main

        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
