"""What asyncio clients do."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc

from tests.conformance.case import MANY, ONE, TIMEOUT_S, Reason
from tests.conformance.client_behaviours import (
    HOLD_S,
    PLAIN,
    SENDING,
    behaviour,
    collect,
    standard_aio,
    until,
)
from tests.conformance.client_options import METADATA, large
from tests.conformance.observations import aio_call_seen, attempt, error_seen, plain

DROPPED_S = 4.0
KINDS_OF_CALL = ("Call", "UnaryUnaryCall", "UnaryStreamCall", "StreamUnaryCall", "StreamStreamCall")


async def tried(act: Any) -> Any:
    """What comes of awaiting it."""
    try:
        return await act
    except BaseException as error:
        return error_seen(error)


async def collected(client: Any) -> bool:
    """Whether the handler ends once nobody holds the call."""
    dropped_s = time.monotonic()
    await asyncio.sleep(0.2)  # gRPC lets go of the call in its own time, and nothing shows when
    collect(dropped_s)
    return await until(client.seen.ended.is_set, 0.5)


async def into(got: list[bytes], call: Any, streams: bool = True) -> None:
    """Collect its responses, as they come."""
    if not streams:
        got.append(await call)
        return
    async for response in call:
        got.append(response)  # noqa: PERF401 (what came before an error is kept)


async def read(client: Any, call: Any) -> dict[str, Any]:
    """Its responses, and what ends them; None is the end."""
    got: list[bytes] = []
    return {"responses": got, "raised": await tried(into(got, call, client.streams))}


async def ended(call: Any) -> dict[str, Any]:
    """Everything that a call object says once it is over."""
    called: list[Any] = []
    call.add_done_callback(lambda given: called.append(given.done()))
    return await aio_call_seen(call) | {
        "done": call.done(),
        "cancelled": call.cancelled(),
        "cancel again": call.cancel(),
        "called back": await until(lambda: called) and called,
        "is": [name for name in KINDS_OF_CALL if isinstance(call, getattr(grpc.aio, name))],
    }


@behaviour(ONE, client="aio")
async def awaited_twice(client: Any) -> Any:
    call = client.started()
    before = {"done": call.done(), "cancelled": call.cancelled()}
    return {"responses": [await call], "before": before, "again": await call} | await ended(call)


@behaviour(client="aio", status="OK")
async def time_remaining(client: Any) -> Any:
    call = client.started()
    left = attempt(lambda: 0 < call.time_remaining() <= TIMEOUT_S)
    return {"left": left} | await read(client, call)


@behaviour(ONE, ending="aborts", client="aio")
async def fails_twice(client: Any) -> Any:
    call = client.started()
    return {"responses": [], "first": await tried(call), "second": await tried(call)} | await ended(call)


@behaviour(ending="aborts", client="aio")
async def asked_before_awaited(client: Any) -> Any:
    call = client.started()
    if not client.streams:
        return {"responses": [], "code": plain(await call.code()), "details": await call.details()}
    initial = plain(await call.initial_metadata())
    return {"initial first": initial} | await read(client, call) | {"code": plain(await call.code())}


@behaviour(ending="waits", client="aio")
async def cancelled(client: Any) -> Any:
    call = client.started()
    await until(client.seen.waiting.is_set)
    return {"cancel": call.cancel()} | await read(client, call) | await ended(call)


@behaviour(ending="waits", client="aio", entered=False, calls=(0, 0))
async def cancelled_at_once(client: Any) -> Any:
    call = client.started()
    return {"cancel": call.cancel()} | await read(client, call) | await ended(call)


@behaviour(ending="waits", client="aio")
async def task_cancelled(client: Any) -> Any:
    call = client.started()
    got: list[bytes] = []
    task = asyncio.create_task(into(got, call, client.streams))
    await until(client.seen.waiting.is_set)
    await asyncio.sleep(0.05)  # the task reads by now; nothing shows it
    task.cancel()
    return {"responses": got, "raised": await tried(task)} | await ended(call)


@behaviour(ending="waits", client="aio")
async def past_the_deadline(client: Any) -> Any:
    call = client.started(HOLD_S)
    return await read(client, call) | await ended(call)


@behaviour(ONE, ending="waits", client="aio")
async def waited_for_too_short(client: Any) -> Any:
    call = client.started()
    await until(client.seen.waiting.is_set)
    return {"responses": [], "raised": await tried(asyncio.wait_for(call, 0.05))} | await ended(call)


@behaviour(ending="waits", client="aio")
async def never_awaited(client: Any) -> Any:
    call = client.started()
    sent = await until(client.seen.waiting.is_set, 1)
    call.cancel()
    return {"responses": [], "sent at the call": sent, "code": (await call.code()).name}


@behaviour(ending="waits", client="aio", status="DEADLINE_EXCEEDED")
async def dropped(client: Any) -> Any:
    call = client.started(DROPPED_S)
    sent = await until(client.seen.waiting.is_set, 1)
    del call
    return {"responses": [], "sent": sent, "gone": await collected(client)}


@behaviour(ONE, client="aio", status="OK")
async def dropped_with_a_callback(client: Any) -> Any:
    called: list[bool] = []
    client.started(DROPPED_S).add_done_callback(lambda call: called.append(call.done()))
    entered = await until(client.seen.entered.is_set)
    responses = [] if client.streams else [b"done"]
    return {"responses": responses, "handler": entered, "called back": await until(lambda: called, 0.5)}


behaviour(
    MANY, name="stream dropped with a callback", client="aio", status="DEADLINE_EXCEEDED", server_status="OK"
)(dropped_with_a_callback)


@behaviour(MANY, ending="waits", client="aio")
async def left_early_and_cancelled(client: Any) -> Any:
    call = client.started()
    first = []
    async for response in call:
        first.append(response)
        if await until(client.seen.waiting.is_set):
            break
    call.cancel()
    return {"responses": first} | await ended(call)


@behaviour(MANY, ending="waits", client="aio", status="DEADLINE_EXCEEDED")
async def left_early_and_dropped(client: Any) -> Any:
    first = []
    async for response in client.started(DROPPED_S):
        first.append(response)
        if await until(client.seen.waiting.is_set):
            break
    return {"responses": first, "gone": await collected(client)}


@behaviour(MANY, client="aio")
async def read_one_by_one(client: Any) -> Any:
    call = client.started()
    got = []
    while (response := await call.read()) is not grpc.aio.EOF:
        got.append(response)
    return {"responses": got, "again": (await call.read()) is grpc.aio.EOF} | await ended(call)


@behaviour(MANY, client="aio", status="OK")
async def both_styles(client: Any) -> Any:
    call = client.started()
    first = await call.read()
    got = [first]
    rest = await tried(into(got, call))
    call.cancel()
    return {"responses": got, "rest": rest}


@behaviour(SENDING, client="aio")
async def written_one_by_one(client: Any) -> Any:
    call = client.stub(timeout=TIMEOUT_S)
    for request in (b"first", b"second"):
        await call.write(request)
    await call.done_writing()
    return await read(client, call) | await ended(call)


@behaviour(SENDING, ending="waits", client="aio", status="OK")
async def written_after_the_end(client: Any) -> Any:
    call = client.stub(timeout=TIMEOUT_S)
    await call.write(b"first")
    await call.done_writing()
    await until(client.seen.waiting.is_set)
    late = await tried(call.write(b"late"))
    client.seen.released.set()
    return {"late": late} | await read(client, call)


@behaviour(SENDING, ending="aborts", client="aio")
async def written_to_a_call_that_failed(client: Any) -> Any:
    call = client.stub(timeout=TIMEOUT_S)
    await call.write(b"first")
    await call.done_writing()
    failed = await read(client, call)
    return failed | {"late": await tried(call.write(b"late"))} | await ended(call)


@behaviour(SENDING, client="aio")
async def requests_from_an_async_generator(client: Any) -> Any:
    async def requests() -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.sleep(0)
        yield b"second"

    call = client.stub(requests(), timeout=TIMEOUT_S)
    return await read(client, call) | await ended(call)


@behaviour(SENDING, client="aio", ending="waits", reason=Reason.RACE)
async def requests_that_raise(client: Any) -> Any:
    async def requests() -> AsyncIterator[bytes]:
        yield b"first"
        raise ValueError("no more")

    call = client.stub(requests(), timeout=HOLD_S)
    return await read(client, call) | await ended(call)


@behaviour(ONE, client="aio", ending="unparsable", status="OK")
async def unparsable_response(client: Any) -> Any:
    return await read(client, client.started())


@behaviour(MANY, client="aio", ending="unparsable", status="OK", reason=Reason.UNPARSABLE)
async def unparsable_last_response(client: Any) -> Any:
    return await read(client, client.started())


@behaviour(client="aio", entered=False, ending="waits", reason=Reason.RACE)
async def unserializable_request(client: Any) -> Any:
    request: Any = 5 if client.case.kind.startswith("unary") else iter([5])

    async def both() -> Any:
        return await read(client, client.stub(request, timeout=HOLD_S))

    return await tried(both())


@behaviour(client="aio", ending="metadata")
async def metadata_of_every_sort(client: Any) -> Any:
    given = grpc.aio.Metadata(*METADATA)
    call = client.started(metadata=given)
    seen = await read(client, call) | {"unchanged": list(given) == list(grpc.aio.Metadata(*METADATA))}
    return seen | await ended(call)


@behaviour(kinds=PLAIN, client="aio")
async def metadata_as_a_tuple(client: Any) -> Any:
    call = client.started(metadata=METADATA)
    return await read(client, call) | await ended(call)


@behaviour(kinds=PLAIN, client="aio", entered=False, calls=(2, 0), reason=Reason.CALLS)
async def metadata_illegal(client: Any) -> Any:
    async def given(metadata: Any) -> Any:
        await into([], client.started(metadata=metadata), client.streams)

    return [
        await tried(given(metadata))
        for metadata in ((("Upper", "a"),), (("key", 5),), (("key", "a", "b"),), ("key",), 5)
    ]


@behaviour(client="aio", ending="metadata", status="OK")
async def initial_metadata_first(client: Any) -> Any:
    call = client.started()
    return {"initial first": plain(await call.initial_metadata())} | await read(client, call)


@behaviour(client="aio", transport="tls")
async def call_credentials(client: Any) -> Any:
    call = client.started(credentials=grpc.access_token_call_credentials("secret"), metadata=METADATA)
    return await read(client, call) | await ended(call)


for transport in ("ipv6", "unix"):
    behaviour(PLAIN, client="aio", transport=transport, name=f"over {transport}")(standard_aio)


@behaviour(kinds=PLAIN, client="aio", reason=Reason.CALLS)
async def unknown_methods(client: Any) -> Any:
    seen = {}
    for method in ("/conformance.Cases/Unknown", "/", "//", "/a", "NoSlash", "a/b", ""):
        client.stub = client.stub_on(client.channel, method)
        seen[method] = await tried(standard_aio(client))
    return seen


@behaviour(client="aio", kinds=("unary_unary", "stream_stream"), ending="large", status="OK")
async def compression(client: Any) -> Any:
    zeros = large(client)
    with client.world.wire(client.target) as (target, count):
        async with grpc.aio.insecure_channel(
            target, interceptors=client.world.stack.aio_client(target)
        ) as channel:
            call = client.stub_on(channel)(zeros, compression=grpc.Compression.Gzip, timeout=TIMEOUT_S)
            size = [len(response) for response in (await read(client, call))["responses"]]
    return {"responses": size, "bytes out": count["out"] < 20_000, "bytes in": count["in"] < 20_000}


@behaviour(client="aio", ending="waits")
async def channel_closed_while_open(client: Any) -> Any:
    channel = grpc.aio.insecure_channel(
        client.target, interceptors=client.world.stack.aio_client(client.target)
    )
    client.stub = client.stub_on(channel)
    call = client.started()
    await until(client.seen.waiting.is_set)
    await channel.close()
    return await read(client, call) | await ended(call)
