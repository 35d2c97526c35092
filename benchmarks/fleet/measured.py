"""What a simulation measures: only of claims that began after the warm-up."""

from array import array

from benchmarks.fleet.subjects import Admitted


class Measured:
    """`begun` counts from the start. `claims` had an answer, `calls` carried claims, and `releases` nothing else."""

    def __init__(self, from_s: float, watched: frozenset[int]) -> None:
        self._from_s = from_s
        self.took_s = array("d")
        self.admitted = Admitted(watched)
        self.claims = self.calls = self.releases = self.refused = self.repeated = self.local = self.heals = 0
        self.begun = self.outages = 0

    def note(self, begun_s: float, ended_s: float) -> None:
        """A claim has its answer."""
        if begun_s >= self._from_s:
            self.claims += 1
            self.took_s.append(ended_s - begun_s)

    def is_warm(self, now_s: float) -> bool:
        """Whether to count what happens now."""
        return now_s >= self._from_s

    def quantile_s(self, share: float) -> float:
        """The time in which this share of the claims had an answer."""
        taken = sorted(self.took_s)
        return taken[min(len(taken) - 1, int(share * len(taken)))] if taken else 0.0
