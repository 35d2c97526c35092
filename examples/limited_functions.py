"""Limits of plain functions: a call that is over the limit raises RateLimited and does not run.

python examples/limited_functions.py
"""

from collections.abc import Iterator

from awx_ratelimit import Concurrency, Limiter, MemoryBackend, Plan, Rate, RateLimited

limiter = Limiter(MemoryBackend())
EXPORTS = Plan("exports", (Rate.parse("10/hour"),), Concurrency(1))


@limiter.limited("2/minute", subject=lambda address, _text: address)
def send(address: str, text: str) -> None:
    """Send an email. Each address gets two a minute."""
    print(f"to {address}: {text}")


@limiter.limited(EXPORTS)
def export() -> Iterator[str]:
    """Export rows. One export runs at a time: its slot is held until the last row."""
    yield "atlas"
    yield "borea"


def main() -> None:
    """Call both until they are refused."""
    for address in ("ada@example.com", "ada@example.com", "ada@example.com", "bob@example.com"):
        try:
            send(address, "hello")
        except RateLimited as refusal:
            print(refusal)
    rows = export()
    print(next(rows))
    try:
        print(next(export()))
    except RateLimited as refusal:
        print(str(refusal).partition(".")[0])
    print(list(rows), list(export()))


if __name__ == "__main__":
    main()
