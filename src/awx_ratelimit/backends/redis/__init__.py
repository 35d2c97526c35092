"""Limits on a Redis or Valkey server, behind Sentinel, or on a cluster. Needs the extra ``redis``."""

from awx_ratelimit.backends.redis.backend import AsyncRedisBackend
from awx_ratelimit.backends.redis.backend_sync import RedisBackend

__all__ = ["AsyncRedisBackend", "RedisBackend"]
