"""Translations: one module for each kind of app. They know the gate, and nothing of each other."""
