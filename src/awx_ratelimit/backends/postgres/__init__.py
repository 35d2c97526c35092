"""Limits in a PostgreSQL database. Needs the extra ``postgres``."""

from awx_ratelimit.backends.postgres.backend import AsyncPostgresBackend
from awx_ratelimit.backends.postgres.backend_sync import PostgresBackend

__all__ = ["AsyncPostgresBackend", "PostgresBackend"]
