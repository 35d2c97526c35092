"""Files of reports: that they can be written is known before the load begins; and one is whole, or not there."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from awx_ratelimit.loadtest.report import Report

#: What makes the text of each file.
ReportFiles = Mapping[Path, Callable[[Report], str]]


def check(paths: Iterable[Path]) -> None:
    """Open each, and leave it as it is. Raises OSError."""
    for path in paths:
        with path.open("ab"):
            pass


def write(files: ReportFiles, report: Report) -> list[str]:
    """Write each, whatever becomes of the others; a sentence for each that could not be written."""
    faults = []
    for path, text_of in files.items():
        try:
            path.write_text(text_of(report), encoding="utf-8")
        except OSError as error:
            if path.is_file():
                path.unlink()
            faults.append(f"the report {path} could not be written: {error.strerror}")
    return faults
