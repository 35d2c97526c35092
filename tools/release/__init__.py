"""Builds the distributions of a release, and proves what a user relies on. See "Release" in CONTRIBUTING.md."""
