"""Other packages' interceptors for servers, from packages and as grpcio's examples write them."""

import inspect
from collections.abc import Callable
from typing import Any

import grpc
import grpc_interceptor
from google.rpc import code_pb2, status_pb2
from grpc_interceptor.exception_to_status import (
    AsyncExceptionToStatusInterceptor,
    ExceptionToStatusInterceptor,
)
from opentelemetry.instrumentation.grpc import aio_server_interceptor, server_interceptor
from sentry_sdk.integrations.grpc.aio.server import ServerInterceptor as SentryAio
from sentry_sdk.integrations.grpc.server import ServerInterceptor as Sentry

from observability import AioErrorInterceptor, ErrorInterceptor
from tests.conformance.case import MANY
from tests.conformance.composition_calls import ENDS, Call, message
from tests.conformance.handler_endings import CODE
from tests.conformance.handler_forms import same
from tests.conformance.third_party import CONTRIB, Other

Passing = Callable[[Any], Any]


def replaced(handler: Any, name: str, behavior: Any) -> Any:
    """The handler with another behavior, as a named tuple gives it."""
    return handler._replace(**{name: behavior})


def rebuilt(handler: Any, name: str, behavior: Any) -> Any:
    """Another handler with that behavior, by grpcio's factories."""
    make = getattr(grpc, f"{name}_rpc_method_handler")
    return make(behavior, handler.request_deserializer, handler.response_serializer)


class WrappedContext:
    """Stands for a context: has what the context has, and is no grpc.ServicerContext."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


def raise_on(error: Exception, context: Any) -> Any:
    raise error


def swallow(error: Exception, context: Any) -> Any:
    return message(b"instead")


def abort(error: Exception, context: Any) -> Any:
    return context.abort(CODE.INVALID_ARGUMENT, f"turned from {type(error).__name__}")


def name_of(handler: Any) -> str:
    """The attribute that holds a handler's behavior."""
    names = (
        "stream" if streams else "unary"
        for streams in (handler.request_streaming, handler.response_streaming)
    )
    return "_".join(names)


class Around(grpc.ServerInterceptor):
    """Puts a function around a handler's behavior: what it does about the context, and about exceptions."""

    def __init__(self, build: Any = rebuilt, see: Passing = same, on_error: Any = raise_on) -> None:
        self._build, self._see, self._on_error = build, see, on_error

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Put it around."""
        return self._around(continuation(handler_call_details))

    def _around(self, handler: Any) -> Any:
        if handler is None:
            return None
        name = name_of(handler)
        wrap = self._stream if name in MANY else self._unary
        return self._build(handler, name, wrap(getattr(handler, name)))

    def _unary(self, behavior: Any) -> Any:
        def unary(request: Any, context: Any) -> Any:
            try:
                return behavior(request, self._see(context))
            except Exception as error:
                return self._on_error(error, context)

        return unary

    def _stream(self, behavior: Any) -> Any:
        def stream(request: Any, context: Any) -> Any:
            try:
                yield from behavior(request, self._see(context))
            except Exception as error:
                yield self._on_error(error, context)

        return stream


class AioAround(grpc.aio.ServerInterceptor, Around):
    """The same on an asyncio server."""

    async def intercept_service(  # type: ignore[override]
        self, continuation: Any, handler_call_details: Any
    ) -> Any:
        """Put it around."""
        return self._around(await continuation(handler_call_details))

    async def _instead(self, error: Exception, context: Any) -> Any:
        result = self._on_error(error, context)
        return await result if inspect.isawaitable(result) else result

    def _unary(self, behavior: Any) -> Any:
        async def unary(request: Any, context: Any) -> Any:
            try:
                return await behavior(request, self._see(context))
            except Exception as error:
                return await self._instead(error, context)

        return unary

    def _stream(self, behavior: Any) -> Any:
        async def stream(request: Any, context: Any) -> Any:
            try:
                async for response in behavior(request, self._see(context)):
                    yield response
            except Exception as error:
                yield await self._instead(error, context)

        return stream


class Instead(grpc.ServerInterceptor):
    """Gives this handler, or raises this exception, without asking for the handler that there is."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Refuse."""
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


class AioInstead(grpc.aio.ServerInterceptor, Instead):
    """The same on an asyncio server."""

    async def intercept_service(  # type: ignore[override]
        self, continuation: Any, handler_call_details: Any
    ) -> Any:
        """Refuse."""
        return Instead.intercept_service(self, continuation, handler_call_details)


async def aio_refuse(request: Any, context: Any) -> Any:
    await context.abort(CODE.UNAUTHENTICATED, "no token")


def refuse(request: Any, context: Any) -> Any:
    context.abort(CODE.UNAUTHENTICATED, "no token")


class Passes(grpc_interceptor.ServerInterceptor):
    """grpc-interceptor's, doing nothing."""

    def intercept(self, method: Any, request_or_iterator: Any, context: Any, method_name: str) -> Any:
        """Hand on."""
        return method(request_or_iterator, context)


class AioPasses(grpc_interceptor.AsyncServerInterceptor):
    """grpc-interceptor's for asyncio, as its documentation has it."""

    async def intercept(self, method: Any, request_or_iterator: Any, context: Any, method_name: str) -> Any:
        """Hand on."""
        result = method(request_or_iterator, context)
        return result if hasattr(result, "__aiter__") else await result


def catch_all(error: Exception) -> status_pb2.Status:
    """A status for whatever is raised."""
    return status_pb2.Status(code=code_pb2.INTERNAL, message=f"caught {type(error).__name__}")


def unseen_swallow(call: Call, position: str) -> bool:
    """Whether ours, inside of what swallows, cannot know: of a stream gRPC says nothing more afterwards.

    The end of a unary call shows when its response is serialized.
    """
    return call.kind in MANY and "raises" in call.end and position != "outermost"


def servers(flavour: str) -> list[Other]:
    """All of them for one flavour of server."""
    aio = flavour == "aio"
    around: Any = AioAround if aio else Around
    instead: Any = AioInstead if aio else Instead
    to_status: Any = AsyncExceptionToStatusInterceptor if aio else ExceptionToStatusInterceptor
    contrib: Any = aio_server_interceptor if aio else server_interceptor
    errors: Any = AioErrorInterceptor if aio else ErrorInterceptor
    terminator: Any = grpc.unary_unary_rpc_method_handler(aio_refuse if aio else refuse)
    grpc_errors = (*ENDS, "raises a status")
    before: dict[str, Any] = {"ends": ("refused",), "refuses": True}
    return [
        Other("grpc-interceptor", AioPasses if aio else Passes),
        Other("grpc-interceptor, exceptions to status", to_status, ends=grpc_errors),
        Other("grpc-interceptor, all to status", lambda: to_status(CODE.INTERNAL), ends=grpc_errors),
        Other("sentry", SentryAio if aio else Sentry),
        Other("contrib", lambda: contrib(tracer_provider=CONTRIB), spans=True),
        Other("handler._replace", lambda: around(replaced)),
        Other("rebuilt handler", around),
        Other("wrapped context", lambda: around(see=WrappedContext)),
        Other("swallows exceptions", lambda: around(on_error=swallow), undecided=unseen_swallow),
        Other("turns exceptions into abort", lambda: around(on_error=abort)),
        Other("ErrorInterceptor", lambda: errors(catch_all)),
        Other("raises before the handler", lambda: instead(ValueError("refused")), **before, method="_OTHER"),
        Other("refuses by another handler", lambda: instead(terminator), **before),
        Other("gives no handler", lambda: instead(None), **before, method="_OTHER"),
    ]
