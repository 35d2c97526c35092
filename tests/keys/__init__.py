"""The lifecycle of API keys, on SQLite and on a real PostgreSQL."""
