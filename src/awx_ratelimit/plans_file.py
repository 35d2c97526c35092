"""A plan table from a TOML file."""

import tomllib
from pathlib import Path, PurePath

from awx_ratelimit.core.table import PlanTable
from awx_ratelimit.errors import InvalidLimit


def load(path: str | PurePath) -> PlanTable:
    """See `PlanTable.from_toml`."""
    source = str(path)
    try:
        with Path(path).open("rb") as file:
            mapping = tomllib.load(file)
    except OSError as error:
        raise InvalidLimit(f"{source}: cannot be read: {error.strerror}; name a TOML file that can") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidLimit(f"{source}: is not TOML: {error}") from error
    return PlanTable.from_mapping(mapping, source=source)
