"""What the source and the metadata of every library have, and have not."""

import re
from importlib.metadata import metadata, requires

from tests.comparison.libraries import Library, defined_names, folder_of, has_coroutines, imported_modules
from tests.comparison.shown import NO, NOT_MEANT, YES, Shown, experiment


@experiment
def slots(library: Library) -> Shown | None:
    """Whether its source defines something for requests in flight."""
    return _defines(library, r"semaphore|concurrency|in_?flight|(?<!re)lease", "for requests in flight")


@experiment
def settled(library: Library) -> Shown | None:
    """Whether its source defines something that corrects a cost."""
    return _defines(library, r"settle|refund|adjust|(?<!p)reserve", "to correct a cost")


@experiment
def api_keys(library: Library) -> Shown | None:
    """Whether its source defines something for API keys."""
    return _defines(library, r"api_?key", "for API keys")


def _defines(library: Library, pattern: str, purpose: str) -> Shown | None:
    found = sorted(name for name in defined_names(library) if re.search(pattern, name))
    # A name alone keeps no promise.
    return None if found else Shown(NO, f"its source defines nothing {purpose}")


@experiment
def metrics(library: Library) -> Shown:
    """Whether its source imports Prometheus or OpenTelemetry."""
    kinds = {"prometheus_client": "Prometheus", "opentelemetry": "OpenTelemetry"}
    modules = imported_modules(library)
    found = [title for module, title in kinds.items() if any(name.partition(".")[0] == module for name in modules)]
    return Shown(YES, " and ".join(found)) if found else Shown(NO, "imports neither Prometheus nor OpenTelemetry")


@experiment
def typing(library: Library) -> Shown:
    """Whether type checkers read its annotations."""
    is_typed = (folder_of(library) / "py.typed").exists()
    return Shown(YES if is_typed else NO, "`py.typed`" if is_typed else "no `py.typed`")


@experiment
def needs(library: Library) -> Shown:
    """The versions of Python and the packages that it needs."""
    packages = [re.split(r"[ ;<>=(\[!~]", each)[0] for each in requires(library.package) or () if ";" not in each]
    python = metadata(library.package)["Requires-Python"]
    least = re.search(r">=\s*([\d.]+)", python)
    assert least is not None
    return Shown(NOT_MEANT, f"Python {least[1]}; {', '.join(sorted(packages)) or 'no package'}")


@experiment
def waiting(library: Library) -> Shown | None:
    """Whether its source has an argument for the time to wait."""
    return _defines(library, r"^(blocking|timeout|wait_ms|max_delay)$", "to wait for room")


@experiment
def websockets(library: Library) -> Shown | None:
    """Whether its source defines something for WebSockets, or for all that an ASGI app receives."""
    if library.is_of_functions:
        return Shown(NOT_MEANT, "limits functions")
    return _defines(library, r"websocket|asgi|^receive$", "for WebSockets")


@experiment
def coroutines(library: Library) -> Shown:
    """Whether its source has coroutines."""
    is_async = has_coroutines(library)
    return Shown(YES if is_async else NO, "has coroutines" if is_async else "has no coroutine")
