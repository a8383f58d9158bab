"""What blocking clients do."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc

from tests.conformance.case import MANY, ONE, TIMEOUT_S, Reason
from tests.conformance.client_behaviours import HOLD_S, SENDING, behaviour, collect, within
from tests.conformance.observations import SOON_S, attempt, call_seen, plain


def ended(call: Any) -> dict[str, Any]:
    """Everything that a call object says once it is over."""
    reported: list[bool] = []
    call.add_done_callback(lambda given: reported.append(given is call))
    return call_seen(call) | {
        "is_active": call.is_active(),
        "running": call.running(),
        "done": call.done(),
        "cancelled": call.cancelled(),
        "cancel again": call.cancel(),
        "result": plain(attempt(lambda: _kind_of(call.result(5)))),
        "exception": plain(attempt(lambda: _kind_of(call.exception(5)))),
        "traceback": plain(attempt(lambda: _kind_of(call.traceback(5)))),
        "done callback": within(lambda: reported) and reported,
        "is": [kind.__name__ for kind in (grpc.Call, grpc.Future, grpc.RpcError) if isinstance(call, kind)],
    }


def _kind_of(value: Any) -> Any:
    return value if value is None or isinstance(value, bytes) else type(value).__name__


def active(call: Any) -> dict[str, Any]:
    """What a call object says while it goes on, without waiting."""
    return {
        "is_active": call.is_active(),
        "running": call.running(),
        "done": call.done(),
        "cancelled": call.cancelled(),
        "time_remaining": 0 < call.time_remaining() <= TIMEOUT_S,
        "add_callback": call.add_callback(lambda: None),
        "result in time": attempt(lambda: call.result(0.01)),
        "exception in time": attempt(lambda: call.exception(0.01)),
        "traceback in time": attempt(lambda: call.traceback(0.01)),
    }


def future_of(client: Any, timeout_s: float = TIMEOUT_S) -> Any:
    """The call as a future."""
    return client.stub.future(client.request(), timeout=timeout_s)


@behaviour(ONE, status="OK")
def blocks(client: Any) -> Any:
    return {"responses": [client.started()]}


@behaviour(ONE, ending="aborts")
def blocks_and_fails(client: Any) -> Any:
    return {"responses": []} | attempt(client.started)


@behaviour(ONE)
def with_call(client: Any) -> Any:
    response, call = client.stub.with_call(client.request(), TIMEOUT_S)
    seen = call_seen(call) | {"responses": [response], "is_active": call.is_active(), "cancel": call.cancel()}
    return seen | {"is Call": isinstance(call, grpc.Call), "add_callback": call.add_callback(lambda: None)}


@behaviour(ONE)
def future(client: Any) -> Any:
    call = future_of(client)
    return {"responses": [call.result()]} | ended(call)


@behaviour(ONE, ending="aborts")
def future_fails(client: Any) -> Any:
    call = future_of(client)
    return {"responses": [], "raised": attempt(call.result)} | ended(call)


@behaviour(ONE, ending="waits")
def future_cancelled(client: Any) -> Any:
    call = future_of(client)
    called = threading.Event()
    call.add_done_callback(lambda _: called.set())
    client.seen.waiting.wait(SOON_S)
    facts = {"while active": active(call), "cancel": call.cancel(), "called": called.wait(5)}
    return {"responses": []} | facts | ended(call)


@behaviour(ONE, ending="waits", entered=False, reason=Reason.RACE)
def future_cancelled_at_once(client: Any) -> Any:
    call = future_of(client)
    call.cancel()
    return ended(call)


@behaviour(ONE, ending="waits")
def future_past_the_deadline(client: Any) -> Any:
    call = future_of(client, HOLD_S)
    return {"responses": [], "raised": attempt(call.result)} | ended(call)


@behaviour(ONE, ending="waits", status="CANCELLED")
def future_dropped(client: Any) -> Any:
    call = future_of(client)
    client.seen.waiting.wait(SOON_S)
    del call
    collect(time.monotonic())
    return {"responses": [], "gone": within(client.seen.ended.is_set, 1)}


@behaviour(ONE, status="OK")
def future_dropped_with_a_callback(client: Any) -> Any:
    codes: list[str] = []
    future_of(client).add_done_callback(lambda call: codes.append(call.code().name))
    return {"responses": [b"done"], "called back": within(lambda: codes) and codes}


@behaviour(ONE, status="OK")
def future_whose_callback_raises(client: Any) -> Any:
    call = future_of(client)
    called: list[str] = []
    call.add_done_callback(lambda _: 1 / 0)
    call.add_done_callback(lambda _: called.append("second"))
    return {"responses": [call.result()], "called back": within(lambda: called) and called}


@behaviour(ONE, status="OK")
def thousand_bytes_and_positional_arguments(client: Any) -> Any:
    response = client.stub(client.request(bytes(1000)), TIMEOUT_S, (("k", "v"),), None, False, None)
    return {"responses": [response]}


def all_of(client: Any, request: Any) -> Any:
    """A call with a request that goes wrong."""
    answer = client.stub(request, timeout=2)
    return list(answer) if client.streams else answer


@behaviour(SENDING, reason=Reason.RACE)
def requests_that_raise(client: Any) -> Any:
    def requests() -> Iterator[bytes]:
        yield b"first"
        raise ValueError("no more")

    return attempt(lambda: all_of(client, requests()))


@behaviour(entered=False, ending="waits", reason=Reason.RACE)
def unserializable_request(client: Any) -> Any:
    request: Any = 5 if client.case.kind.startswith("unary") else iter([5])
    return attempt(lambda: all_of(client, request))


@behaviour(ONE, ending="unparsable", server_status="OK")
def unparsable_response(client: Any) -> Any:
    return {"responses": []} | attempt(client.started)


@behaviour(MANY, ending="unparsable", server_status="OK", reason=Reason.UNPARSABLE)
def unparsable_last_response(client: Any) -> Any:
    got: list[bytes] = []
    call = client.started()
    return {"raised": attempt(lambda: got.extend(call)), "code": plain(call.code()), "got": len(got) <= 2}


@behaviour(MANY)
def read_to_the_end(client: Any) -> Any:
    call = client.started()
    responses = list(call)
    return {"responses": responses, "again": list(call), "iter is self": iter(call) is call} | ended(call)


@behaviour(MANY, ending="aborts")
def fails_in_the_middle(client: Any) -> Any:
    call = client.started()
    got = [next(call), next(call)]
    raised = {"raised": attempt(lambda: next(call)), "again": attempt(lambda: next(call))}
    return {"responses": got} | raised | ended(call)


@behaviour(MANY, ending="waits")
def active_stream(client: Any) -> Any:
    call = client.started()
    first = next(call)
    client.seen.waiting.wait(SOON_S)
    facts = active(call) | {"initial": plain(call.initial_metadata())}
    return {"responses": [first], "active": facts, "cancel": call.cancel()} | ended(call)


@behaviour(MANY, ending="waits")
def left_early_and_cancelled(client: Any) -> Any:
    call = client.started()
    first = next(call)
    client.seen.waiting.wait(SOON_S)
    call.cancel()
    return {"responses": [first], "next": attempt(lambda: next(call))} | call_seen(call)


@behaviour(MANY, ending="waits", status="CANCELLED")
def left_early_and_dropped(client: Any) -> Any:
    first = []
    for response in client.started():
        first.append(response)
        if client.seen.waiting.wait(SOON_S):
            break
    collect(time.monotonic())
    return {"responses": first, "gone": within(client.seen.ended.is_set, 1)}


@behaviour(MANY, ending="waits")
def cancelled_unread(client: Any) -> Any:
    call = client.started()
    client.seen.waiting.wait(SOON_S)
    return {"responses": [], "cancel": call.cancel()} | ended(call)


@behaviour(MANY, ending="waits", status="CANCELLED")
def never_iterated(client: Any) -> Any:
    call = client.started()
    sent = client.seen.waiting.wait(SOON_S)
    call.cancel()
    return {"responses": [], "sent at the call": sent}


@behaviour(MANY, status="CANCELLED", server_status="OK")
def never_iterated_to_its_end(client: Any) -> Any:
    call = client.started()
    done = threading.Event()
    call.add_done_callback(lambda _: done.set())
    facts = {
        "handler ends": client.seen.ended.wait(SOON_S),
        "called back": done.wait(0.3),
        "cancel": call.cancel(),
    }
    return {"responses": []} | facts


@behaviour(MANY, ending="waits", status="CANCELLED")
def never_iterated_and_dropped(client: Any) -> Any:
    call = client.started()
    sent = client.seen.waiting.wait(SOON_S)
    del call
    collect(time.monotonic())
    return {"responses": [], "sent": sent, "gone": within(client.seen.ended.is_set, 1)}


@behaviour(MANY, ending="waits")
def never_iterated_past_the_deadline(client: Any) -> Any:
    call = client.started(HOLD_S)
    return {"responses": [], "code first": call.code().name} | ended(call)


@behaviour(MANY, ending="waits")
def deadline_in_the_middle(client: Any) -> Any:
    call = client.started(HOLD_S)
    got: list[bytes] = []
    raised = {"raised": attempt(lambda: got.extend(call)), "next": attempt(lambda: next(call))}
    return {"responses": got} | raised | ended(call)


@behaviour(MANY, ending="metadata")
def initial_metadata_first(client: Any) -> Any:
    call = client.started()
    initial = plain(call.initial_metadata())
    return {"initial first": initial, "responses": list(call)} | ended(call)


@behaviour(MANY, status="OK")
def callbacks_in_order(client: Any) -> Any:
    called: list[Any] = []
    call = client.started()
    call.add_done_callback(lambda given: called.append(("done callback", given.code().name)))
    added = call.add_callback(lambda: called.append("callback"))
    return {
        "responses": list(call),
        "added": added,
        "called back": within(lambda: len(called) == 2) and called,
    }


@behaviour(MANY, ending="waits")
def cancelled_from_another_thread(client: Any) -> Any:
    call = client.started()
    first = [next(call), next(call)]
    client.seen.waiting.wait(SOON_S)
    timer = threading.Timer(0.05, call.cancel)
    timer.start()
    raised = attempt(lambda: next(call))
    timer.join()
    return {"responses": first, "raised": raised} | ended(call)


@behaviour(MANY, ending="waits")
def result_of_a_stream(client: Any) -> Any:
    call = client.started(HOLD_S)
    return {"responses": [], "result of it": attempt(call.result)} | call_seen(call)


@behaviour(MANY, ending="waits")
def channel_closed_while_open(client: Any) -> Any:
    channel = client.world.connect(client.target)
    client.stub = client.stub_on(channel)
    call = client.started()
    got = [next(call)]
    client.seen.waiting.wait(SOON_S)
    channel.close()
    return {"responses": got, "next": attempt(lambda: got.extend(call))} | call_seen(call)
