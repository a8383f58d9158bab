"""Every form of handler that grpcio takes, around the same body."""

import functools
import inspect
import time
from collections.abc import Callable
from typing import Any

import grpc

from tests.conformance.handler_endings import Ending
from tests.conformance.observations import Seen

# An asyncio server sends a plain handler's response while the handler goes on; a status meanwhile gets lost.
SETTLED_S = 0.2
Body = Callable[[Any, Any], Any]


def same(value: Any) -> Any:
    return value


def sync_body(kind: str, seen: Seen, ending: Ending, message: Callable[[Any], Any] = same) -> Body:
    """The body of a plain handler: takes all requests, gives some responses if it streams, and ends.

    message makes a response of what the ending gives.
    """

    def unary(request: Any, context: Any) -> Any:
        with seen.handling(context):
            _take_all(kind, seen, request)
            return message(ending.act(context, seen))

    def stream(request: Any, context: Any) -> Any:
        with seen.handling(context):
            _take_all(kind, seen, request)
            for response in ending.before:
                yield message(response)
                seen.sent += 1
                seen.note_span()
            if seen.flavour == "plain":
                time.sleep(SETTLED_S)
            last = ending.act(context, seen)
            if last is not None:
                yield message(last)
                seen.sent += 1

    return stream if kind.endswith("stream") else unary


def _take_all(kind: str, seen: Seen, request: Any) -> None:
    for each in request if kind.startswith("stream") else [request]:
        seen.take(each)


def aio_body(
    kind: str, seen: Seen, ending: Ending, by_read: bool = False, message: Callable[[Any], Any] = same
) -> Body:
    """The same for an asyncio server; by_read reads and writes through the context."""

    async def unary(request: Any, context: Any) -> Any:
        with seen.handling(context):
            await _take_all_aio(kind, seen, by_read, request, context)
            return message(await _end(ending, context, seen))

    async def stream(request: Any, context: Any) -> Any:
        with seen.handling(context):
            await _take_all_aio(kind, seen, by_read, request, context)
            for response in ending.before:
                yield message(response)
                seen.sent += 1
                seen.note_span()
            last = await _end(ending, context, seen)
            if last is not None:
                yield message(last)
                seen.sent += 1

    async def write(request: Any, context: Any) -> None:
        with seen.handling(context):
            await _take_all_aio(kind, seen, by_read, request, context)
            for response in ending.before:
                await context.write(message(response))
                seen.sent += 1
                seen.note_span()
            last = await _end(ending, context, seen)
            if last is not None:
                await context.write(message(last))
                seen.sent += 1

    return unary if not kind.endswith("stream") else write if by_read else stream


async def _take_all_aio(kind: str, seen: Seen, by_read: bool, request: Any, context: Any) -> None:
    if not kind.startswith("stream"):
        seen.take(request)
    elif by_read:
        while (each := await context.read()) is not grpc.aio.EOF:
            seen.take(each)
    else:
        async for each in request:
            seen.take(each)


async def _end(ending: Ending, context: Any, seen: Seen) -> Any:
    last = ending.act(context, seen)
    return await last if inspect.isawaitable(last) else last


class CallableObject:
    """An object that is called like a function."""

    def __init__(self, body: Body) -> None:
        self._body = body

    def __call__(self, request: Any, context: Any) -> Any:
        return self._body(request, context)


class AsyncCallableObject(CallableObject):
    """The same, as a coroutine function."""

    async def __call__(self, request: Any, context: Any) -> Any:
        return await self._body(request, context)


class Servicer(CallableObject):
    """An object with a method, as servicers are."""

    def serve(self, request: Any, context: Any) -> Any:
        return self._body(request, context)


class NextOnly:
    """Has __next__ alone, which is all that grpcio asks for."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __next__(self) -> Any:
        return next(self._inner)


class Steps(NextOnly):
    """An iterator that is no generator, and has nothing but what an iterator must have."""

    def __iter__(self) -> "Steps":
        return self


def partial(body: Body) -> Body:
    return functools.partial(lambda extra, request, context: body(request, context), "extra")


def wrapped(body: Body) -> Body:
    @functools.wraps(body)
    def outer(*arguments: Any, **named: Any) -> Any:
        return body(*arguments, **named)

    return outer


WRAPPED: dict[str, Callable[[Body], Any]] = {
    "callable object": CallableObject,
    "partial": partial,
    "decorated": wrapped,
}
UNARY: dict[str, Callable[[Body], Any]] = {
    "function": same,
    "method": lambda body: Servicer(body).serve,
    **WRAPPED,
}
STREAM: dict[str, Callable[[Body], Any]] = {
    "generator": same,
    **WRAPPED,
    "iterator": lambda body: lambda request, context: Steps(body(request, context)),
    "next only": lambda body: lambda request, context: NextOnly(body(request, context)),
    "list iterator": lambda body: lambda request, context: iter(list(body(request, context))),
    "list": lambda body: lambda request, context: list(body(request, context)),
    "map": lambda body: lambda request, context: map(bytes, body(request, context)),
}


def async_partial(body: Body) -> Body:
    async def each(extra: str, request: Any, context: Any) -> Any:
        async for response in body(request, context):
            yield response

    async def one(extra: str, request: Any, context: Any) -> Any:
        return await body(request, context)

    return functools.partial(each if inspect.isasyncgenfunction(body) else one, "extra")


class AsyncServicer:
    """A servicer with async methods, one for each sort of body."""

    def __init__(self, body: Body) -> None:
        self._body = body

    async def one(self, request: Any, context: Any) -> Any:
        return await self._body(request, context)

    async def each(self, request: Any, context: Any) -> Any:
        async for response in self._body(request, context):
            yield response


def async_method(body: Body) -> Body:
    servicer = AsyncServicer(body)
    return servicer.each if inspect.isasyncgenfunction(body) else servicer.one


AIO: dict[str, Callable[[Body], Any]] = {
    "function": lambda body: body,
    "partial": async_partial,
    "method": async_method,
    "callable object": AsyncCallableObject,
    "returns a coroutine": lambda body: CallableObject(body).__call__,
}
