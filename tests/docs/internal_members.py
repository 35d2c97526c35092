"""Members of public classes that are for other parts of the package, and classes of results that users only pass on."""

#: What an adapter calls on a gate, beside `admit`.
_GATE = {
    *("admit_to_route", "begin", "drop", "expect_route_limit", "exposed_names", "give_back", "header_names"),
    "identify_quietly",
    *("parts", "replaced"),
}
#: What functions with their own limits, adapters and metrics call on a limiter.
_LIMITER = {
    *("claim", "claim_jointly", "clock", "give_back", "is_closed", "lines", "observers", "peek_jointly", "report"),
    "shadow",
}
#: What limiters and guards call on a backend, if it can do so.
_GUARD = {"can_settle", "observe", "outage_counts", "renew_leases", "settle_soon"}
_SERVER = {"can_settle", "heal", "home", "observe", "renew_leases", "settle_late", "settle_soon"}
#: What adapters ask each other, so that no request is charged twice.
_MIDDLEWARE = {"check_is_first", "counts_by"}
#: What a gate calls on an identifier. docs/identify.md has what an identifier of your own may define.
_IDENTIFIER = {"call_async", "known", "sends_key"}
#: What a limiter and the exporters call on a listener.
_METRICS = {"add_accepted", "counts", "decisions", "observe_ended", "reporter"}

#: The members of each class that its section leaves out.
INTERNAL: dict[str, set[str]] = {
    "awx_ratelimit.AsyncGate": _GATE,
    "awx_ratelimit.AsyncGuardedBackend": _GUARD,
    "awx_ratelimit.AsyncLimiter": _LIMITER,
    "awx_ratelimit.AsyncPostgresBackend": _SERVER,
    "awx_ratelimit.AsyncRedisBackend": _SERVER,
    "awx_ratelimit.ClientAddress": {"plan", "sends_key"},
    "awx_ratelimit.Decision": {"has_exceeded", "record_plans"},
    "awx_ratelimit.Gate": _GATE,
    "awx_ratelimit.GuardedBackend": _GUARD,
    "awx_ratelimit.HostBackend": {"observe", "reopen"},
    "awx_ratelimit.JwtSubject": _IDENTIFIER,
    "awx_ratelimit.Limiter": _LIMITER,
    "awx_ratelimit.MemoryBackend": {"after_fork", "begin", "observe", "used_by_limiter"},
    "awx_ratelimit.Plan": {"check", "impossible"},
    "awx_ratelimit.PlanTable": {"overridden", "refusal_of"},
    "awx_ratelimit.PostgresBackend": _SERVER,
    "awx_ratelimit.RateLimitMiddleware": _MIDDLEWARE | {"begin_lifespan", "end_lifespan"},
    "awx_ratelimit.RedisBackend": _SERVER,
    "awx_ratelimit.Request": {"sent_prefixes"},
    "awx_ratelimit.Rule": {"cost_of", "exempts"},
    "awx_ratelimit.StaticKeys": {
        *("accepts_bearer", "caller_of", "caller_plans", "callers", "callers_without_account"),
        *("known", "memory_finders", "sends_key"),
    },
    "awx_ratelimit.StoredKeys": {
        *_IDENTIFIER,
        *("accepts_bearer", "flush_async", "identify_quietly", "identify_quietly_async", "memory_finders"),
        *("reopen", "verifier", "was_known"),
    },
    "awx_ratelimit.WsgiRateLimitMiddleware": _MIDDLEWARE,
    "awx_ratelimit.adapters.aiohttp.RateLimit": {"counts_by"},
    "awx_ratelimit.adapters.django.DjangoUser": {"call_async", "caller_named", "sends_key"},
    # What these frameworks call on a middleware, an error, a throttle or an interceptor.
    "awx_ratelimit.adapters.django.RateLimitMiddleware": _MIDDLEWARE | {"gate"},
    "awx_ratelimit.adapters.drf.LimiterUnavailable": {"status_code"},
    "awx_ratelimit.adapters.drf.Throttle": {"allow_request", "wait"},
    "awx_ratelimit.adapters.grpc.AsyncRateLimitInterceptor": {"intercept_service"},
    "awx_ratelimit.adapters.grpc.RateLimitInterceptor": {"intercept_service"},
    "awx_ratelimit.adapters.ninja.Throttle": {"allow_request", "wait"},
    "awx_ratelimit.adapters.starlette.RateLimitMiddleware": {"begin_lifespan", "check_is_first", "end_lifespan"},
    "awx_ratelimit.adapters.tornado.RateLimit": {"get_handler_delegate"},
    "awx_ratelimit.adapters.werkzeug.RateLimitMiddleware": {"check_is_first"},
    "awx_ratelimit.keys.KeyRedactingFilter": {"filter"},
    # What `AsgiApp` asks an app.
    "awx_ratelimit.console.Console": {"needs_loop"},
    "awx_ratelimit.console.OperatorConsole": {"needs_loop"},
    "awx_ratelimit.management.ManagementApi": {"needs_loop"},
    "awx_ratelimit.management.OperatorApi": {"needs_loop"},
    # What the parts of a limit, and of the key service, call on each other.
    "awx_ratelimit.core.function_limit.FunctionLimit": {"claim", "scope_of"},
    "awx_ratelimit.http.route_limit.RouteLimit": {"bound", "route_of"},
    "awx_ratelimit.keys.KeyFinder": {"may_contain_key"},
    "awx_ratelimit.keys.KeyFormat": {"digest"},
    "awx_ratelimit.keys.KeyStore": {"changes", "mark_used", "migrate", "query", "subscribe", "unit_of_work", "write"},
    "awx_ratelimit.keys.KeyVerifier": {
        *("caller_in_memory", "find", "inspect", "look_up", "poll", "prefix", "store", "verify_cached"),
        *("was_known", "write_uses"),
    },
    "awx_ratelimit.keys.QuotaWarning": {"of"},
    "awx_ratelimit.keys.QuotaWarnings": {"look", "reporter", "take"},
    "awx_ratelimit.keys.UsageHistory": {"dropped", "reporter", "rotate", "take", "untaken", "write"},
    "awx_ratelimit.keys.operator_reports.OperatorReports": {"times"},
    "awx_ratelimit.management.AccessTokens": {
        *("any_claims_of", "authorized", "claims_of", "now_ms", "owner", "owner_of"),
    },
    "awx_ratelimit.management.OperatorTokens": {"operator"},
    "awx_ratelimit.observability.opentelemetry.OpenTelemetryMetrics": _METRICS,
    "awx_ratelimit.observability.prometheus.PrometheusMetrics": _METRICS | {"collect", "publish"},
    "awx_ratelimit.testing.AdapterContract": {"new_driver"},
    "awx_ratelimit.testing.ManualClock": {"call_at"},
}
#: Classes of results that users need not know: context managers, and fields that a plan, a rule or a budget derives.
OPAQUE = {"AsyncHold", "Hold", "Layout", "Periods", "Price", "Queue", "ScopedSubject", "SigningKeys"}
