"""``manage.py awx_ratelimit``."""
