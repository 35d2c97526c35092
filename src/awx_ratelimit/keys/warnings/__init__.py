"""Warnings about quotas that are nearly or fully used: whom to warn of what, once, and the delivery."""
