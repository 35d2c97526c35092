import logging
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from awx_ratelimit import Caller, InvalidLimit, PlanTable


class Seconds:
    """The monotonic clock of the file's watcher, turned by hand."""

    now = 100.0


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> Seconds:
    seconds = Seconds()
    monkeypatch.setattr(time, "monotonic", lambda: seconds.now)
    return seconds


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "plans.toml"
    _write(path, 60)
    return path


def _write(path: Path, per_minute: object) -> None:
    text = f'default = "p"\n[plans.p]\nper_minute = {per_minute}\n'
    path.write_text(text)
    # Two writes within the file system's resolution would look alike.
    os.utime(path, ns=(time.time_ns(), time.time_ns() + hash(text) % 10**9))


def _per_minute(table: PlanTable) -> int:
    return table.resolve(Caller("s")).rates[0].tokens


def test_changed_file_is_loaded(path: Path, seconds: Seconds) -> None:
    """A changed file applies after one second and not before."""
    table = PlanTable.watch(path)
    _write(path, 300)
    before = _per_minute(table)
    seconds.now += 1

    assert before == 60
    assert _per_minute(table) == 300
    assert table.plans[0].rates[0].tokens == 300


@pytest.mark.parametrize("bad", ["'x'", "0", "= ="])
def test_invalid_change_keeps_the_table(
    path: Path, seconds: Seconds, caplog: pytest.LogCaptureFixture, bad: str
) -> None:
    """An invalid new file keeps the table and logs one error for each version."""
    table = PlanTable.watch(path)
    _write(path, bad)
    with caplog.at_level(logging.ERROR, "awx_ratelimit"):
        for _ in range(3):
            seconds.now += 1
            kept = _per_minute(table)

    assert kept == 60
    assert len(caplog.records) == 1
    assert str(path) in caplog.text


def test_invalid_change_is_an_error_at_the_next_start(
    path: Path, seconds: Seconds, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says that this process goes on, and that others will not start."""
    table = PlanTable.watch(path)
    _write(path, 0)
    seconds.now += 1
    _per_minute(table)

    assert caplog.messages[0].endswith(
        "; this process keeps the previous version. Correct the file: a process that starts now refuses it"
    )
    with pytest.raises(InvalidLimit, match="expected an integer >= 1, got 0"):
        PlanTable.watch(path)


@pytest.mark.parametrize(
    ("text", "removed"),
    [
        ('default = "p"\n[plans.p]\nper_minute = 1', "the plans 'gold', 'team'"),
        ('default = "p"\n[plans.p]\nper_minute = 1\n[plans.team]\nper_minute = 1', "the plan 'gold'"),
        ("[plans.p]\nper_minute = 1\n[plans.team]\nper_minute = 1", "the plan 'gold' and the default plan"),
        ("[plans.p]\nper_minute = 1\n[plans.gold]\nper_minute = 1\n[plans.team]\nper_day = 1", "the default plan"),
        ('default = "gold"\n[plans.p]\nper_day = 1\n[plans.gold]\nper_day = 1\n[plans.team]\nper_day = 1', None),
    ],
)
def test_removed_plans_are_named(
    path: Path, seconds: Seconds, caplog: pytest.LogCaptureFixture, text: str, removed: str | None
) -> None:
    """A change that removes plans, or the default, is used, and logs a warning with their names at once."""
    _write(path, "60\n[plans.gold]\nper_minute = 600\n[plans.team]\nper_minute = 600")
    table = PlanTable.watch(path)
    path.write_text(text)
    seconds.now += 1
    table.resolve(Caller("s", "p"))

    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert table.plans[0].name == "p"
    assert said == (
        []
        if removed is None
        else [
            f"{path}: the change has removed {removed}; requests that need what is gone get a 503. Write it again, or "
            "give their callers another plan"
        ]
    )


def test_many_removed_plans(path: Path, seconds: Seconds, caplog: pytest.LogCaptureFixture) -> None:
    """The warning names ten plans, and counts the others: a table may have tens of thousands."""
    _write(path, "60\n" + "\n".join(f"[plans.t{number:03}]\nper_minute = 1" for number in range(300)))
    table = PlanTable.watch(path)
    _write(path, 60)
    seconds.now += 1
    table.resolve(Caller("s", "p"))

    (said,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "'t008', 't009' and 290 more; requests that need" in said


def test_removed_file_keeps_the_table(path: Path, seconds: Seconds) -> None:
    """A removed file keeps the table until the file exists again."""
    table = PlanTable.watch(path)
    path.unlink()
    seconds.now += 1
    kept = _per_minute(table)
    _write(path, 7)
    seconds.now += 1

    assert kept == 60
    assert _per_minute(table) == 7


def a_pipe(path: Path) -> None:
    """Whoever opens it waits for its other end."""
    os.mkfifo(path)


def a_device(path: Path) -> None:
    """It has no end."""
    path.symlink_to("/dev/zero")


def a_large_file(path: Path) -> None:
    """Larger than memory."""
    path.touch()
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (a_pipe, "it is not a regular file"),
        (a_device, "it is not a regular file"),
        (Path.mkdir, "it is a folder; name a file in it"),
        (a_large_file, "it has more than 4194304 bytes"),
        (lambda path: path.symlink_to(path), "cannot be read: Too many levels of symbolic links"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "is not TOML"),
        (
            lambda path: path.write_text('[plans."a\\u001b"]\nper_minute = 1'),
            "expected printable characters",
        ),
        (lambda path: path.write_text('[plans."a\\n"]\nper_minute = 0'), "plans.a\\x0a.per_minute: "),
        (lambda path: path.write_text(f"a = {'[' * 500}{']' * 500}"), "TOML"),
    ],
)
def test_unreadable_file_keeps_the_table(
    path: Path,
    seconds: Seconds,
    caplog: pytest.LogCaptureFixture,
    make: Callable[[Path], object],
    why: str,
) -> None:
    """A pipe, a device, a large file and other wrong content keep the table and block nobody."""
    table = PlanTable.watch(path)
    path.unlink()
    make(path)
    for _ in range(3):
        seconds.now += 1
        kept = _per_minute(table)
    with pytest.raises(InvalidLimit, match=re.escape(why)):
        PlanTable.from_toml(path)

    assert kept == 60
    assert len(caplog.records) == 1
    assert f"{path}: " in caplog.text
    assert "this process keeps the previous version" in caplog.text
    assert why in caplog.text


def test_mounted_file(tmp_path: Path, seconds: Seconds) -> None:
    """A file behind two links, as Kubernetes mounts configuration, is loaded when a link changes."""
    for version, per_minute in (("v1", 60), ("v2", 300)):
        (tmp_path / version).mkdir()
        _write(tmp_path / version / "plans.toml", per_minute)
    (tmp_path / "data").symlink_to("v1")
    path = tmp_path / "plans.toml"
    path.symlink_to("data/plans.toml")
    table = PlanTable.watch(path)
    (tmp_path / "new").symlink_to("v2")
    (tmp_path / "new").replace(tmp_path / "data")
    seconds.now += 1

    assert _per_minute(table) == 300


def test_invalid_file_at_start(tmp_path: Path) -> None:
    """Watching an invalid file is an error that names the file."""
    with pytest.raises(InvalidLimit, match=r"none\.toml: cannot be read"):
        PlanTable.watch(tmp_path / "none.toml")
