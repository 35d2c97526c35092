"""Report files: checked before the run starts, and written completely or not at all."""

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from awx_ratelimit.loadtest.report.results import Report
from awx_ratelimit.runtime.files import UnusableFile, check_links, create_owned

#: The path of each report, and the function that formats it.
ReportFiles = Mapping[Path, Callable[[Report], str]]


def check(paths: Iterable[Path]) -> None:
    """Check that each file can be written. A missing one is created with mode 0600; the others are not changed.

    Raises OSError, and UnusableFile for a symbolic link of another user, who could choose what is overwritten.
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
    """Write each report, even if another one fails; one error message per failure."""
    errors = []
    for path, format_report in files.items():
        try:
            path.write_text(format_report(report), encoding="utf-8")
        except OSError as error:
            if path.is_file():
                path.unlink()
            errors.append(f"cannot write the report {path}: {error.strerror}")
    return errors
