"""Pictures of real runs for the documentation: ``python -m tests.browser.pictures docs/images [demo] [report]``."""

import sys
from pathlib import Path

from tests.browser.chromium import chromium
from tests.browser.pictures import demo, report

PICTURES = {"demo": demo.take, "report": report.take}


def main(folder: Path, *names: str) -> None:
    """Take all pictures, or those of `names`."""
    with chromium() as browser:
        for name in names or PICTURES:
            PICTURES[name](browser, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
