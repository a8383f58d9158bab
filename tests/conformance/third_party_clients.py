"""Other people's interceptors for clients, from packages and as grpcio's examples write them."""

import collections
from collections.abc import Iterator
from typing import Any

import grpc
import grpc_interceptor
from google.api_core import exceptions, grpc_helpers, grpc_helpers_async, retry
from opentelemetry.instrumentation.grpc import aio_client_interceptors, client_interceptor
from opentelemetry.instrumentation.grpc.grpcext import intercept_channel
from sentry_sdk.integrations.grpc.aio.client import (
    SentryUnaryStreamClientInterceptor,
    SentryUnaryUnaryClientInterceptor,
)
from sentry_sdk.integrations.grpc.client import ClientInterceptor as Sentry

from observability.grpc.deadline import DeadlineInterceptor, aio_deadline_interceptors
from tests.conformance.case import MANY
from tests.conformance.composition_calls import DEADLINE_S, ENDS, Call
from tests.conformance.handler_endings import CODE
from tests.conformance.stacks import EveryKind, aio_pass, every_aio_kind
from tests.conformance.third_party import CONTRIB, Other

ATTEMPTS = 3


class Generators(EveryKind):
    """Streams are plain generators, as grpcio's examples return them."""

    def stream(self, continuation: Any, details: Any, request: Any) -> Any:
        """Hand on each response."""
        for response in continuation(details, request):  # noqa: UP028 (as the example has it)
            yield response


class Details(
    collections.namedtuple("Details", ("method", "timeout", "metadata", "credentials")),
    grpc.ClientCallDetails,
):
    """grpcio's example of call details, without those fields that came later."""


class Adds(EveryKind):
    """Adds a header, as grpcio's example does."""

    def unary(self, continuation: Any, details: Any, request: Any) -> Any:
        """Add it."""
        metadata = [*(details.metadata or ()), ("added", "c")]
        return continuation(Details(details.method, details.timeout, metadata, details.credentials), request)

    stream = unary


class Retries(EveryKind):
    """Calls again while the server is not available and nothing has come."""

    def unary(self, continuation: Any, details: Any, request: Any) -> Any:
        """Call until it is something else."""
        request = [*request] if isinstance(request, Iterator) else request
        for _ in range(ATTEMPTS):
            call = continuation(details, iter(request) if isinstance(request, list) else request)
            if call.code() is not CODE.UNAVAILABLE:
                break
        return call

    def stream(self, continuation: Any, details: Any, request: Any) -> Any:
        """Call until something comes."""
        request = [*request] if isinstance(request, Iterator) else request
        for attempt in range(ATTEMPTS):
            try:
                yield from continuation(details, iter(request) if isinstance(request, list) else request)
                return
            except grpc.RpcError as error:
                if error.code() is not CODE.UNAVAILABLE or attempt == ATTEMPTS - 1:
                    raise


class Passes(grpc_interceptor.ClientInterceptor):
    """grpc-interceptor's, doing nothing."""

    def intercept(self, method: Any, request_or_iterator: Any, call_details: Any) -> Any:
        """Hand on."""
        return method(request_or_iterator, call_details)


async def aio_generator(continuation: Any, details: Any, request: Any) -> Any:
    call = await continuation(details, request)

    async def responses() -> Any:
        async for response in call:
            yield response

    return responses()


async def aio_add(continuation: Any, details: Any, request: Any) -> Any:
    metadata = grpc.aio.Metadata(*(details.metadata or ()), ("added", "c"))
    return await continuation(details._replace(metadata=metadata), request)


async def aio_retry(continuation: Any, details: Any, request: Any) -> Any:
    request = [*request] if isinstance(request, Iterator) else request
    for _ in range(ATTEMPTS):
        call = await continuation(details, iter(request) if isinstance(request, list) else request)
        if await call.code() is not CODE.UNAVAILABLE:
            break
    return call


async def aio_retry_stream(continuation: Any, details: Any, request: Any) -> Any:
    kept = [*request] if isinstance(request, Iterator) else request

    async def attempt() -> Any:
        return await continuation(details, iter(kept) if isinstance(kept, list) else kept)

    first = await attempt()  # grpcio wants a call by the time that it gets the responses

    async def responses() -> Any:
        call = first
        for left in reversed(range(ATTEMPTS)):
            try:
                async for response in call:
                    yield response
                return
            except grpc.aio.AioRpcError as error:
                if error.code() is not CODE.UNAVAILABLE or not left:
                    raise
            call = await attempt()

    return responses()


def contrib(channel: Any) -> Any:
    return intercept_channel(channel, client_interceptor(CONTRIB))


def sentry_aio() -> list[Any]:
    return [SentryUnaryUnaryClientInterceptor(), SentryUnaryStreamClientInterceptor()]


AGAIN: dict[str, Any] = {
    "predicate": retry.if_exception_type(exceptions.ServiceUnavailable),
    "initial": 0.01,
    "timeout": 10.0,
}


def again(stub: Any) -> Any:
    return retry.Retry(**AGAIN)(grpc_helpers.wrap_errors(stub))


def aio_again(stub: Any) -> Any:
    return retry.AsyncRetry(**AGAIN)(grpc_helpers_async.wrap_errors(stub))


def not_cancelled(call: Call) -> bool:
    """Unary calls that a client cannot cancel, with or without ours: a wrapper of google.api_core's gives no
    future, and what waits for the status before it hands out the call waits for the RPC's end.
    """
    return call.end == "client cancels" and call.kind not in MANY


def not_left(call: Call) -> bool:
    """A call of two streams that contrib's callback keeps alive when it is dropped, without ours too."""
    return (call.kind, call.end) == ("stream_stream", "client leaves")


def two_codes(call: Call, position: str) -> bool:
    """A stream that was tried again on asyncio: grpcio's call object goes on saying how the first try ended."""
    return call.end == "fails twice" and call.kind in MANY and position != "innermost"


def clients(flavour: str) -> list[Other]:
    """All of them for one flavour of channel."""
    aio = flavour == "aio"
    retries: dict[str, Any] = {"ends": (*ENDS, "fails twice"), "leaves_out": not_cancelled}
    waits: dict[str, Any] = {"leaves_out": not_cancelled}
    limited = (*ENDS, "default deadline passes")
    caller: dict[str, Any] = {"positions": ("innermost",), "leaves_out": not_cancelled}
    if not aio:
        return [
            Other("grpc-interceptor", Passes),
            Other("sentry", Sentry, **waits),
            Other("contrib", lambda: contrib, spans=True, stands_aside=True, leaves_out=not_left),
            Other("plain generators", Generators),
            Other("adds a header", Adds),
            Other("retries", Retries, **retries),
            Other("DeadlineInterceptor", lambda: DeadlineInterceptor(DEADLINE_S), ends=limited),
            Other("api-core errors", stub=grpc_helpers.wrap_errors, **caller),
            Other("api-core retry", stub=again, **(caller | retries)),
        ]
    return [
        Other("sentry", sentry_aio, **waits),
        Other("contrib", lambda: aio_client_interceptors(CONTRIB), spans=True, stands_aside=True, **waits),
        Other("plain generators", lambda: every_aio_kind(aio_pass, aio_generator)),
        Other("adds a header", lambda: every_aio_kind(aio_add, aio_add)),
        Other("retries", lambda: every_aio_kind(aio_retry, aio_retry_stream), undecided=two_codes, **retries),
        Other("DeadlineInterceptor", lambda: aio_deadline_interceptors(DEADLINE_S), ends=limited),
        Other("api-core errors", stub=grpc_helpers_async.wrap_errors, **caller),
        Other("api-core retry", stub=aio_again, **(caller | retries)),
    ]
