"""Files of reports: that they can be written is known before the load begins; and one is whole, or not there."""

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from awx_ratelimit.loadtest.report.results import Report
from awx_ratelimit.runtime.files import UnusableFile, check_links, create_owned

#: What makes the text of each file.
ReportFiles = Mapping[Path, Callable[[Report], str]]


def check(paths: Iterable[Path]) -> None:
    """Open each, and leave it as it is; a missing one is created with mode 0600.

    Raises OSError, and UnusableFile for a link of another user, who could choose what is overwritten.
    """
    for path in paths:
        try:
            check_links(path)
        except UnusableFile as error:
            raise UnusableFile(f"{path}: {error}") from error
        with suppress(FileExistsError):
            os.close(create_owned(str(path), os.O_WRONLY))
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
