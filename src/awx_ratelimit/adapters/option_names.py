"""Checks the names of options, so that an error names the class that the user has called, and what it takes."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches


def check_option_names(owner: str, given: Iterable[str], known: Collection[str]) -> None:
    """Raise TypeError if an option in `given` is not one of `known`. `owner` is the public class that got them."""
    problem = unknown_options(given, known)
    if problem:
        raise TypeError(f"{owner}: {problem}")


def unknown_options(given: Iterable[str], known: Collection[str]) -> str:
    """What is wrong with the names in `given`; empty if all of them are `known`.

    It names their nearest matches, or all options if one has no match. It contains no value: one may be a key.
    """
    unknown = [name for name in given if name not in known]
    if not unknown:
        return ""
    matches = {name: get_close_matches(name.lower(), known, 1) for name in unknown}
    if all(matches.values()):
        remedy = ", ".join(match[0] for match in matches.values())
    else:
        remedy = f"one of {', '.join(known)}"
    return f"got the unknown option{'s' * (len(unknown) > 1)} {', '.join(map(repr, unknown))}; write {remedy}"
