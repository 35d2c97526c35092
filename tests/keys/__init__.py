"""The API-key lifecycle, on SQLite and on a real PostgreSQL."""
