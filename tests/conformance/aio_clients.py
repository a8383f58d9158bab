"""What asyncio clients do."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc

from tests.conformance.cases import TIMEOUT_S, error_seen, plain
from tests.conformance.clients import HOLD_S, MANY, ONE, SENDING, behaviour
from tests.conformance.drivers import aio_call_seen, collect, standard_aio
from tests.conformance.option_clients import METADATA, large, stub_on

DROPPED_S = 4.0
KINDS_OF_CALL = ("Call", "UnaryUnaryCall", "UnaryStreamCall", "StreamUnaryCall", "StreamStreamCall")


async def tried(act: Any) -> Any:
    """What comes of awaiting it."""
    try:
        return await act
    except BaseException as error:
        return error_seen(error)


async def until(condition: Any, timeout_s: float = 2.0) -> bool:
    """Whether it comes true in time."""
    for _ in range(int(timeout_s / 0.005)):
        if condition():
            return True
        await asyncio.sleep(0.005)
    return bool(condition())


def started(client: Any, timeout_s: float = TIMEOUT_S, **options: Any) -> Any:
    """The call, made."""
    return client.stub(client.request(), timeout=timeout_s, **options)


async def collected(client: Any) -> bool:
    """Whether the handler ends once nobody holds the call."""
    dropped_s = time.monotonic()
    await asyncio.sleep(0.2)  # gRPC lets go of the call in its own time, and nothing tells when
    collect(dropped_s)
    return await until(client.seen.ended.is_set, 1)


async def whole(call: Any, streams: bool) -> list[bytes]:
    """All its responses."""
    return [response async for response in call] if streams else [await call]


async def ended(call: Any) -> dict[str, Any]:
    """Everything that a call object tells once it is over."""
    told: list[Any] = []
    call.add_done_callback(lambda given: told.append(given.done()))
    return await aio_call_seen(call) | {
        "done": call.done(),
        "cancelled": call.cancelled(),
        "cancel again": call.cancel(),
        "told": await until(lambda: told) and told,
        "is": [name for name in KINDS_OF_CALL if isinstance(call, getattr(grpc.aio, name))],
    }


@behaviour(ONE, client="aio")
async def awaited_twice(client: Any) -> Any:
    call = started(client)
    before = {"done": call.done(), "cancelled": call.cancelled()}
    return {"before": before, "first": await call, "second": await call} | await ended(call)


@behaviour(client="aio")
async def time_remaining(client: Any) -> Any:
    call = started(client)
    try:
        return {"left": 0 < call.time_remaining() <= TIMEOUT_S}
    finally:
        await whole(call, client.streams)


@behaviour(ONE, ending="aborts", client="aio")
async def fails_twice(client: Any) -> Any:
    call = started(client)
    return {"first": await tried(call), "second": await tried(call)} | await ended(call)


@behaviour(ending="aborts", client="aio", loose=True)
async def asked_before_awaited(client: Any) -> Any:
    call = started(client)
    return (
        {"code": plain(await call.code()), "details": await call.details()}
        if not client.streams
        else {
            "initial": plain(await call.initial_metadata()),
            "responses": await tried(whole(call, True)),
            "code": plain(await call.code()),
        }
    )


@behaviour(ending="waits", client="aio")
async def cancelled(client: Any) -> Any:
    call = started(client)
    await until(client.seen.waiting.is_set)
    answer = call.cancel()
    return {"cancel": answer, "raised": await tried(whole(call, client.streams))} | await ended(call)


@behaviour(ending="waits", client="aio", entered=False, calls=0, racy=True, server_status="any", loose=True)
async def cancelled_at_once(client: Any) -> Any:
    call = started(client)
    answer = call.cancel()
    return {"cancel": answer, "raised": await tried(whole(call, client.streams))} | await ended(call)


@behaviour(ending="waits", client="aio")
async def task_cancelled(client: Any) -> Any:
    call = started(client)
    task = asyncio.create_task(whole(call, client.streams))
    await until(client.seen.waiting.is_set)
    await asyncio.sleep(0.05)  # the task reads by now; nothing tells so
    task.cancel()
    return {"raised": await tried(task)} | await ended(call)


@behaviour(ending="waits", client="aio")
async def past_the_deadline(client: Any) -> Any:
    call = started(client, HOLD_S)
    return {"raised": await tried(whole(call, client.streams))} | await ended(call)


@behaviour(ONE, ending="waits", client="aio")
async def waited_for_too_short(client: Any) -> Any:
    call = started(client)
    await until(client.seen.waiting.is_set)
    return {"raised": await tried(asyncio.wait_for(call, 0.05))} | await ended(call)


@behaviour(ending="waits", client="aio", loose=True)
async def never_awaited(client: Any) -> Any:
    call = started(client)
    sent = await until(client.seen.waiting.is_set, 1)
    call.cancel()
    return {"sent at the call": sent, "code": (await call.code()).name}


@behaviour(ending="waits", client="aio", loose=True)
async def dropped(client: Any) -> Any:
    call = started(client, DROPPED_S)
    sent = await until(client.seen.waiting.is_set, 1)
    del call
    return {"sent": sent, "gone": await collected(client)}


@behaviour(client="aio", loose=True)
async def dropped_with_a_callback(client: Any) -> Any:
    told: list[bool] = []
    started(client, DROPPED_S).add_done_callback(lambda call: told.append(call.done()))
    return {"handler": await until(client.seen.entered.is_set), "told": await until(lambda: told, 0.5)}


@behaviour(MANY, ending="waits", client="aio")
async def left_early_and_cancelled(client: Any) -> Any:
    call = started(client)
    first = []
    async for response in call:
        first.append(response)
        if await until(client.seen.waiting.is_set):
            break
    call.cancel()
    return {"first": first} | await ended(call)


@behaviour(MANY, ending="waits", client="aio", loose=True)
async def left_early_and_dropped(client: Any) -> Any:
    first = []
    async for response in started(client, DROPPED_S):
        first.append(response)
        if await until(client.seen.waiting.is_set):
            break
    return {"first": first, "gone": await collected(client)}


@behaviour(MANY, client="aio")
async def read_one_by_one(client: Any) -> Any:
    call = started(client)
    got = []
    while (response := await call.read()) is not grpc.aio.EOF:
        got.append(response)
    return {"got": got, "again": (await call.read()) is grpc.aio.EOF} | await ended(call)


@behaviour(MANY, client="aio", loose=True)
async def both_styles(client: Any) -> Any:
    call = started(client)
    first = await call.read()
    rest = await tried(whole(call, True))
    call.cancel()
    return {"first": first, "rest": rest}


@behaviour(SENDING, client="aio")
async def written_one_by_one(client: Any) -> Any:
    call = client.stub(timeout=TIMEOUT_S)
    for request in (b"first", b"second"):
        await call.write(request)
    await call.done_writing()
    return {"responses": await whole(call, client.streams)} | await ended(call)


@behaviour(SENDING, ending="waits", client="aio", loose=True)
async def written_after_the_end(client: Any) -> Any:
    call = client.stub(timeout=TIMEOUT_S)
    await call.write(b"first")
    await call.done_writing()
    await until(client.seen.waiting.is_set)
    late = await tried(call.write(b"late"))
    client.seen.released.set()
    return {"late": late, "responses": await whole(call, client.streams)}


@behaviour(SENDING, ending="aborts", client="aio", loose=True)
async def written_to_a_call_that_failed(client: Any) -> Any:
    call = client.stub(timeout=TIMEOUT_S)
    await call.write(b"first")
    await call.done_writing()
    failed = await tried(whole(call, client.streams))
    return {"failed": failed, "late": await tried(call.write(b"late"))} | await ended(call)


@behaviour(SENDING, client="aio")
async def requests_from_an_async_generator(client: Any) -> Any:
    async def requests() -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.sleep(0)
        yield b"second"

    call = client.stub(requests(), timeout=TIMEOUT_S)
    return {"responses": await whole(call, client.streams)} | await ended(call)


@behaviour(SENDING, client="aio", ending="waits", server_status="any", loose=True, racy=True)
async def requests_that_raise(client: Any) -> Any:
    async def requests() -> AsyncIterator[bytes]:
        yield b"first"
        raise ValueError("no more")

    call = client.stub(requests(), timeout=HOLD_S)
    return {"raised": await tried(whole(call, client.streams))} | await ended(call)


@behaviour(client="aio", ending="unparsable", server_status="OK", loose=True)
async def unparsable_response(client: Any) -> Any:
    return await tried(whole(started(client), client.streams))


@behaviour(client="aio", entered=False, ending="waits", server_status="any", loose=True, racy=True)
async def unserializable_request(client: Any) -> Any:
    request: Any = 5 if client.case.kind.startswith("unary") else iter([5])

    async def both() -> Any:
        return await whole(client.stub(request, timeout=HOLD_S), client.streams)

    return await tried(both())


@behaviour(client="aio", ending="metadata")
async def metadata_of_every_sort(client: Any) -> Any:
    given = grpc.aio.Metadata(*METADATA)
    call = started(client, metadata=given)
    responses = await whole(call, client.streams)
    return {
        "responses": responses,
        "unchanged": list(given) == list(grpc.aio.Metadata(*METADATA)),
    } | await ended(call)


@behaviour(client="aio", kinds=("unary_unary", "unary_stream"))
async def metadata_as_a_tuple(client: Any) -> Any:
    call = started(client, metadata=METADATA)
    return {"responses": await whole(call, client.streams)} | await ended(call)


@behaviour(client="aio", kinds=("unary_unary", "unary_stream"), entered=False, calls=0)
async def metadata_illegal(client: Any) -> Any:
    async def given(metadata: Any) -> Any:
        return await whole(started(client, metadata=metadata), client.streams)

    return [
        await tried(given(metadata))
        for metadata in ((("Upper", "a"),), (("key", 5),), (("key", "a", "b"),), ("key",), 5)
    ]


@behaviour(client="aio", ending="metadata")
async def initial_metadata_first(client: Any) -> Any:
    call = started(client)
    return {"initial": plain(await call.initial_metadata()), "responses": await whole(call, client.streams)}


@behaviour(client="aio", transport="tls")
async def call_credentials(client: Any) -> Any:
    call = started(client, credentials=grpc.access_token_call_credentials("secret"), metadata=METADATA)
    return {"responses": await whole(call, client.streams)} | await ended(call)


@behaviour(client="aio", transport="unix", kinds=("unary_unary", "unary_stream"))
async def over_a_unix_socket(client: Any) -> Any:
    return await standard_aio(client)


@behaviour(client="aio", transport="ipv6", kinds=("unary_unary", "unary_stream"))
async def over_ipv6(client: Any) -> Any:
    return await standard_aio(client)


@behaviour(client="aio", kinds=("unary_unary", "unary_stream"), entered=False, calls=0, loose=True)
async def unknown_methods(client: Any) -> Any:
    seen = {}
    for method in ("/conformance.Cases/Unknown", "/", "//", "/a", "NoSlash", "a/b", ""):
        client.stub = stub_on(client, client.channel, method)
        seen[method] = await tried(standard_aio(client))
    return seen


@behaviour(client="aio", kinds=("unary_unary", "stream_stream"), ending="large", loose=True)
async def compression(client: Any) -> Any:
    zeros = large(client)
    with client.world.wire(client.target) as (target, count):
        async with grpc.aio.insecure_channel(
            target, interceptors=client.world.stack.aio_client(target)
        ) as channel:
            call = stub_on(client, channel)(zeros, compression=grpc.Compression.Gzip, timeout=TIMEOUT_S)
            size = [len(response) for response in await whole(call, client.streams)]
    return {"size": size, "bytes out": count["out"] < 20_000, "bytes in": count["in"] < 20_000}


@behaviour(client="aio", ending="waits")
async def channel_closed_while_open(client: Any) -> Any:
    channel = grpc.aio.insecure_channel(
        client.target, interceptors=client.world.stack.aio_client(client.target)
    )
    call = stub_on(client, channel)(client.request(), timeout=TIMEOUT_S)
    await until(client.seen.waiting.is_set)
    await channel.close()
    return {"raised": await tried(whole(call, client.streams))} | await ended(call)
