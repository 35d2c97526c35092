"""The tables of accounts, keys and events, on SQLite or PostgreSQL. Needs the extra ``keys``."""
