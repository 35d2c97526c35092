"""Middlewares and mounted apps: each module translates between one kind of app and the gate."""
