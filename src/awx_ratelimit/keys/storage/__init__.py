"""Storage of accounts, keys and audit events in SQLite or PostgreSQL. Needs the extra ``keys``."""
