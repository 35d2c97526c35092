"""For gRPC: interceptors that limit the RPCs of a server, for ``grpc.aio.server`` and for ``grpc.server``.

    server = grpc.aio.server(interceptors=[AsyncRateLimitInterceptor(keys={"awx_example_key": "starter"})])

The API key comes in the metadata ``x-api-key``. Rules match the path of a method, such as
``/grpc.health.v1.Health/**``.
"""

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Any, Unpack

from awx_ratelimit.runtime.extras import missing_package

try:
    import grpc
    import grpc.aio
except ModuleNotFoundError as error:
    raise missing_package("limits of RPCs need", error) from error

from awx_ratelimit.adapters.gate_arguments import OPTIONS, GateOptions, Keys, OwnedGate, OwnedSyncGate, Plans
from awx_ratelimit.adapters.grpc_messages import metadata_of, refusal_of, report, request_of
from awx_ratelimit.backends.base import AsyncBackend, Backend
from awx_ratelimit.core.option_names import check_option_names
from awx_ratelimit.http.gate import AsyncGate
from awx_ratelimit.http.gate_sync import Gate
from awx_ratelimit.http.identity.identifiers import AsyncIdentify, Identify
from awx_ratelimit.http.policy import Admission

__all__ = ["AsyncRateLimitInterceptor", "RateLimitInterceptor"]


class AsyncRateLimitInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Limits the RPCs of a ``grpc.aio`` server. It takes the arguments of RateLimitMiddleware; `gate` is an AsyncGate.

    A refused RPC ends with RESOURCE_EXHAUSTED: its trailing metadata have ``retry-after`` in seconds, and a
    google.rpc.RetryInfo with the exact wait. A missing or wrong key is UNAUTHENTICATED, and an outage without a
    decision is UNAVAILABLE. Admitted RPCs report their limits in the trailing metadata. A slot is held until the RPC
    ends or is cancelled.

    Handlers must be coroutine functions or async generators. RPCs to other handlers end with INTERNAL.
    """

    def __init__(
        self,
        *,
        keys: Keys | None = None,
        identify: AsyncIdentify | None = None,
        plans: Plans | None = None,
        backend: str | AsyncBackend | Backend | None = None,
        gate: AsyncGate | None = None,
        **options: Unpack[GateOptions],
    ) -> None:
        check_option_names("AsyncRateLimitInterceptor", options, OPTIONS)
        self._owned = OwnedGate(keys, identify, plans, backend, gate, options)
        self.gate = self._owned.gate

    async def aclose(self) -> None:
        """Close the backend if it was given as a URL. Call it after the server has stopped."""
        await self._owned.aclose()

    async def intercept_service(self, continuation: Callable[..., Any], details: Any) -> Any:
        """See grpc.aio.ServerInterceptor."""
        handler = await continuation(details)
        return handler and _with_behavior(handler, self._limited(details, _behavior(handler)))

    def _limited(self, details: Any, behavior: Any) -> Any:
        async def enter(context: Any) -> Admission:
            admission = await self.gate.admit(request_of(details, context))
            if admission.reply is not None:
                await context.abort(*refusal_of(admission))
            try:
                context.set_trailing_metadata(metadata_of(admission.headers))
            except BaseException:
                self.gate.drop(admission.decision)
                raise
            return admission

        async def respond(request: Any, context: Any) -> Any:
            admission = await enter(context)
            try:
                try:
                    return await behavior(request, context)
                finally:
                    self._leave(admission, context)
            finally:
                self.gate.drop(admission.decision)  # see `_leave`

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            admission = await enter(context)
            try:
                try:
                    async with aclosing(behavior(request, context)) as responses:
                        async for response in responses:
                            yield response
                finally:
                    self._leave(admission, context)
            finally:
                self.gate.drop(admission.decision)  # see `_leave`

        async def refuse(_: Any, context: Any) -> None:
            await context.abort(grpc.StatusCode.INTERNAL, "The handler of this method is not async.")

        if inspect.isasyncgenfunction(behavior):
            return stream
        return respond if inspect.iscoroutinefunction(behavior) else refuse

    def _leave(self, admission: Admission, context: Any) -> None:
        """Release the slot of an RPC, and report its limits.

        A signal handler may raise before it has done anything, so callers `drop` the decision afterwards.
        """
        if admission.decision is not None:
            self.gate.release(admission.decision)
        report(admission, context)


class RateLimitInterceptor(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Limits the RPCs of a ``grpc.server``, as AsyncRateLimitInterceptor does; `gate` is a Gate."""

    def __init__(
        self,
        *,
        keys: Keys | None = None,
        identify: Identify | None = None,
        plans: Plans | None = None,
        backend: str | Backend | None = None,
        gate: Gate | None = None,
        **options: Unpack[GateOptions],
    ) -> None:
        check_option_names("RateLimitInterceptor", options, OPTIONS)
        self._owned = OwnedSyncGate(keys, identify, plans, backend, gate, options)
        self.gate = self._owned.gate

    def close(self) -> None:
        """Close the backend if it was given as a URL. Call it after the server has stopped."""
        self._owned.close()

    def intercept_service(self, continuation: Callable[..., Any], details: Any) -> Any:
        """See grpc.ServerInterceptor."""
        handler = continuation(details)
        return handler and _with_behavior(handler, self._limited(details, handler))

    def _limited(self, details: Any, handler: Any) -> Any:
        behavior = _behavior(handler)

        def respond(request: Any, context: Any) -> Any:
            admission = self._enter(details, context)
            try:
                try:
                    return behavior(request, context)
                finally:
                    self._leave(admission, context)
            finally:
                self.gate.drop(admission.decision)  # see `_leave`

        def stream(request: Any, context: Any) -> Iterator[Any]:
            admission = self._enter(details, context)
            try:
                try:
                    if admission.decision is not None:
                        # The server does not close the iterator of a cancelled RPC.
                        context.add_callback(lambda: self.gate.release(admission.decision))
                    yield from behavior(request, context)
                finally:
                    self._leave(admission, context)
            finally:
                self.gate.drop(admission.decision)  # see `_leave`

        return stream if handler.response_streaming else respond

    def _enter(self, details: Any, context: Any) -> Admission:
        admission = self.gate.admit(request_of(details, context))
        if admission.reply is not None:
            code, text, metadata = refusal_of(admission)
            context.set_trailing_metadata(metadata)
            context.abort(code, text)
        try:
            context.set_trailing_metadata(metadata_of(admission.headers))
        except BaseException:
            self.gate.drop(admission.decision)
            raise
        return admission

    def _leave(self, admission: Admission, context: Any) -> None:
        """See AsyncRateLimitInterceptor."""
        if admission.decision is not None:
            self.gate.release(admission.decision)
        report(admission, context)


def _kind(handler: Any) -> str:
    sides = handler.request_streaming, handler.response_streaming
    return "_".join("stream" if streaming else "unary" for streaming in sides)


def _behavior(handler: Any) -> Any:
    return getattr(handler, _kind(handler))


def _with_behavior(handler: Any, behavior: Any) -> Any:
    make = getattr(grpc, f"{_kind(handler)}_rpc_method_handler")
    return make(behavior, handler.request_deserializer, handler.response_serializer)
