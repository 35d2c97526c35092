"""Processes that share a host file while they are killed and stopped at any instruction.

AWX_CHAOS_SECONDS sets the duration; `make chaos` takes a minute.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.chaos.host_hammer import ACCOUNT, FEW, KEY, KEYS, MANY, MOST_SETTLED, SERVICE, SLOTS, START_MS

from awx_ratelimit import Budget, Limiter
from awx_ratelimit.backends.host import HostBackend
from awx_ratelimit.backends.host.cell import newest_half
from awx_ratelimit.testing import ManualClock

SECONDS = float(os.environ.get("AWX_CHAOS_SECONDS", "1.5"))
ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(SECONDS + 60)
def test_killed_processes_leave_the_file_intact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Limits of all budgets hold exactly, no slot and no token is lost, and every cell can be read."""
    command = [sys.executable, "-m", "tests.chaos.host_storm", str(tmp_path), str(SECONDS)]
    ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, timeout=SECONDS + 50, check=True)
    outside, cuts, stops = map(int, ended.stdout.split())
    kills = outside + cuts

    assert not (tmp_path / "over").exists()
    limiter = Limiter(HostBackend(tmp_path / "limits", clock=ManualClock(START_MS)))
    let_in = {name: (tmp_path / name).stat().st_size for name in ("many", "few")}
    # On a busy machine, the storm has left some.
    while limiter.acquire("few", FEW).allowed:
        let_in["few"] += 1
    used = {
        plan.name: [
            usage.capacity - usage.remaining for usage in limiter.peek(plan.name, plan).usages[: len(plan.rates)]
        ]
        for plan in (MANY, FEW)
    }
    with capsys.disabled():
        sys.stdout.write(
            f"\n{SECONDS:g} s, {kills} processes killed, {cuts} of them in the middle of a write, "
            f"{stops} stopped for a moment: {let_in['many']} let in on "
            f"one subject, {used['many'][0]} charged; {let_in['few']} of {FEW.rates[0].burst} on another\n"
        )
    # Each killed process may have been charged for one claim whose decision it never got.
    assert let_in["many"] <= used["many"][0] <= let_in["many"] + kills
    assert used["many"][0] == used["many"][1]
    assert let_in["few"] <= used["few"][0] == FEW.rates[0].burst
    assert let_in["few"] >= FEW.rates[0].burst - kills
    assert let_in["many"] > kills
    _check_joint_claims(tmp_path, limiter, kills)
    assert [limiter.acquire("many", MANY).allowed for _ in range(SLOTS + 1)] == [True] * SLOTS + [False]
    assert _unreadable(limiter) == 0


def _check_joint_claims(folder: Path, limiter: Limiter, kills: int) -> None:
    """Each killed process may have been charged in some budgets for one claim, and at most for what it settled."""
    told = {name: (folder / name).stat().st_size for name in ("account", "service")}
    # On a busy machine, the storm has left some.
    while (decision := limiter.acquire(KEYS[0], KEY, also=[SERVICE])).allowed:
        told["service"] += 1
        limiter.release(decision)
    budgets = [ACCOUNT, SERVICE, *(Budget(key, KEY) for key in KEYS)]
    usages = [limiter.peek(budget.subject, budget.plan, scope=budget.scope).usages for budget in budgets]
    account, service, *keys = [limits[0].capacity - limits[0].remaining for limits in usages]

    assert told["account"] <= account <= told["account"] + MOST_SETTLED * kills
    assert usages[0][0].remaining == usages[0][1].remaining
    assert told["service"] <= service == FEW.rates[0].burst
    assert told["service"] >= FEW.rates[0].burst - kills
    assert sum(told.values()) <= sum(keys) <= sum(told.values()) + MOST_SETTLED * kills
    assert told["account"] > kills
    assert [limits[-1].remaining for limits in (usages[0], *usages[2:])] == [SLOTS] * 5
    held = [limiter.acquire(KEYS[number % 4], KEY, also=[ACCOUNT]) for number in range(SLOTS + 1)]
    assert [decision.allowed for decision in held] == [True] * SLOTS + [False]


def _unreadable(limiter: Limiter) -> int:
    """How many cells are damaged."""
    table = limiter.backend._session.open()  # type: ignore[attr-defined]
    found = 0
    for shard in table.file.shards:
        rooms = table._index._extents(shard)[0]
        for level, room_at in enumerate(rooms):
            cells = table.file.memory[room_at : room_at + (4_096 << level)]
            found += sum(newest_half(cells[at : at + 512]) is None for at in range(0, len(cells), 512))
    return found
