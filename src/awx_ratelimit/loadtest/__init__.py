"""Does a gateway do what its tier table says? Load by Locust, and an audit of what was seen.

The audit is pure: timed observations in, verdicts out. Locust patches the whole process that loads it, so it lives in
processes of its own (`driver`, `worker`); nothing else here imports it. It needs the extra ``loadtest``.
"""
