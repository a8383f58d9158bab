"""Domain errors become statuses in one place: handlers raise them, and know nothing of gRPC's codes."""

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
from google.rpc import status_pb2
from grpc_status import rpc_status

from observability.grpc.context import WatchedContext
from observability.grpc.handlers import PerMethod, behavior_of, blocks, with_behavior

ToStatus = Callable[[Exception], status_pb2.Status | None]


class ErrorInterceptor(grpc.ServerInterceptor):
    """Ends an RPC of a grpc.Server with the status for what its handler raised. Put it last: the innermost.

    to_status is called with the exception, and returns the google.rpc.Status for it, or None for one that it
    does not know, which then goes on. A handler's own abort goes on, too.
    """

    def __init__(self, to_status: ToStatus) -> None:
        self._to_status = to_status
        self._wrapped = PerMethod(self._wrap)

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """Wrap the handler."""
        handler = continuation(handler_call_details)
        return None if handler is None else self._wrapped.of(handler_call_details.method, handler)

    def _wrap(self, _: str, handler: Any) -> Any:
        behavior = behavior_of(handler)
        if not blocks(behavior):
            return handler
        serve = self._stream if handler.response_streaming else self._unary
        return with_behavior(handler, serve(behavior))

    def _unary(self, behavior: Any) -> Any:
        def serve(request: Any, context: Any) -> Any:
            watched = WatchedContext(context)
            try:
                return behavior(request, watched)
            except Exception as error:
                self._abort(error, watched)
                raise

        return serve

    def _stream(self, behavior: Any) -> Any:
        def serve(request: Any, context: Any) -> Iterator[Any]:
            watched = WatchedContext(context)
            try:
                yield from behavior(request, watched)
            except Exception as error:
                self._abort(error, watched)
                raise

        return serve

    def _abort(self, error: Exception, context: WatchedContext) -> None:
        if not context.aborted and (status := self._to_status(error)):
            context.abort_with_status(rpc_status.to_status(status))


class AioErrorInterceptor(grpc.aio.ServerInterceptor):
    """Ends an RPC of a grpc.aio.Server as ErrorInterceptor does, with the same to_status.

    Its handlers are async functions or async generators; others are left as they are.
    """

    def __init__(self, to_status: ToStatus) -> None:
        self._to_status = to_status
        self._wrapped = PerMethod(self._wrap)

    async def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """Wrap the handler."""
        handler = await continuation(handler_call_details)
        return None if handler is None else self._wrapped.of(handler_call_details.method, handler)

    def _wrap(self, _: str, handler: Any) -> Any:
        behavior = behavior_of(handler)
        if inspect.isasyncgenfunction(behavior):
            return with_behavior(handler, self._stream(behavior))
        return (
            with_behavior(handler, self._unary(behavior))
            if inspect.iscoroutinefunction(behavior)
            else handler
        )

    def _unary(self, behavior: Any) -> Any:
        async def serve(request: Any, context: Any) -> Any:
            try:
                return await behavior(request, context)
            except grpc.aio.AbortError:
                raise
            except Exception as error:
                await self._abort(error, context)
                raise

        return serve

    def _stream(self, behavior: Any) -> Any:
        async def serve(request: Any, context: Any) -> AsyncIterator[Any]:
            try:
                async for response in behavior(request, context):
                    yield response
            except grpc.aio.AbortError:
                raise
            except Exception as error:
                await self._abort(error, context)
                raise

        return serve

    async def _abort(self, error: Exception, context: Any) -> None:
        if status := self._to_status(error):
            await context.abort_with_status(rpc_status.to_status(status))
