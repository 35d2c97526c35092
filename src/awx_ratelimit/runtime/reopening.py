"""`Reopenable`: what the next lifespan of an app opens again if the last one has closed it."""

from abc import ABC, abstractmethod


class Reopenable(ABC):
    """Only classes of this library derive from it: an object of the app may have a `reopen` that means something else.

    After `reopen`, the object uses new threads. Those of before may outlive `close`, and end by themselves.
    """

    @abstractmethod
    def reopen(self) -> None:
        """Work again after `close`. It is harmless if open, and during a `close`."""
