"""The model of a bucket whose claims are settled: its debt is computed from the history of the final costs."""

from dataclasses import dataclass, field
from fractions import Fraction
from math import floor

from awx_ratelimit.core.rate import Rate


@dataclass
class _Charge:
    at_ms: int
    tokens: Fraction
    is_open: bool = False


@dataclass
class SettledBucket:
    """One bucket and its history, in tokens. The clock never steps back, and the rate never changes."""

    rate: Rate
    history: list[_Charge] = field(default_factory=list)

    def charge(self, tokens: int, now_ms: int) -> _Charge:
        """A declared claim of `tokens`, which can be settled."""
        charge = _Charge(now_ms, Fraction(tokens), is_open=True)
        self.history.append(charge)
        return charge

    def settle(self, charge: _Charge, tokens: int, now_ms: int) -> None:
        """The claim turns out to cost `tokens`: less from the start, or the rest now."""
        more = tokens - charge.tokens
        if more <= 0:
            charge.tokens = Fraction(tokens)
        else:
            self.history.append(_Charge(now_ms, min(more, 2 * self.rate.burst - self.debt(now_ms))))
        charge.is_open = False
        self._forget_beginning()

    def debt(self, now_ms: int) -> Fraction:
        """The debt now, computed from the whole history."""
        debt, at_ms = Fraction(0), 0
        for charge in [*self.history, _Charge(now_ms, Fraction(0))]:
            if self.rate.refill == "calendar":
                debt = debt if self.rate.periods.bounds(charge.at_ms)[0] <= at_ms else Fraction(0)
            else:
                debt = max(Fraction(0), debt - Fraction(self.rate.tokens * (charge.at_ms - at_ms), self.rate.period_ms))
            debt, at_ms = debt + charge.tokens, charge.at_ms
        return debt

    def remaining(self, now_ms: int) -> int:
        """What a Usage must report."""
        return max(0, floor(self.rate.burst - self.debt(now_ms)))

    def _forget_beginning(self) -> None:
        """Replace the charges before the first open one by their sum, so that the history stays short."""
        first = next((at for at, charge in enumerate(self.history) if charge.is_open), len(self.history))
        if first > 1:
            later, self.history = self.history[first:], self.history[:first]
            at_ms = self.history[-1].at_ms
            self.history = [_Charge(at_ms, self.debt(at_ms)), *later]
