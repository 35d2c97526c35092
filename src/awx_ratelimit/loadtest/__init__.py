"""Load tester: Locust sends requests to a gateway, and an audit checks the responses against the gateway's plan.

The audit is pure: it turns timed observations into verdicts. Locust patches the process that imports it, so only
`load.driver` and `load.workers` import it, in their own processes. The load tester needs the extra ``loadtest``.
"""
