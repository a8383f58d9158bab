"""What blocking clients of streams do."""

import threading
import time
from typing import Any

from tests.conformance.cases import SOON_S, TIMEOUT_S, attempt, call_seen, plain
from tests.conformance.clients import HOLD_S, MANY, active, behaviour, ended, within
from tests.conformance.drivers import collect


def started(client: Any, timeout_s: float = TIMEOUT_S) -> Any:
    """The call, made."""
    return client.stub(client.request(), timeout=timeout_s)


@behaviour(MANY)
def read_to_the_end(client: Any) -> Any:
    call = started(client)
    responses = list(call)
    return {"responses": responses, "again": list(call), "iter is self": iter(call) is call} | ended(call)


@behaviour(MANY, ending="aborts")
def fails_in_the_middle(client: Any) -> Any:
    call = started(client)
    got = [next(call), next(call)]
    return {"got": got, "raised": attempt(lambda: next(call)), "again": attempt(lambda: next(call))} | ended(
        call
    )


@behaviour(MANY, ending="waits")
def active_stream(client: Any) -> Any:
    call = started(client)
    first = next(call)
    client.seen.waiting.wait(SOON_S)
    facts = active(call) | {"initial": plain(call.initial_metadata())}
    return {"first": first, "active": facts, "cancel": call.cancel()} | ended(call)


@behaviour(MANY, ending="waits")
def left_early_and_cancelled(client: Any) -> Any:
    call = started(client)
    first = next(call)
    client.seen.waiting.wait(SOON_S)
    call.cancel()
    return {"first": first, "next": attempt(lambda: next(call))} | call_seen(call)


@behaviour(MANY, ending="waits")
def left_early_and_dropped(client: Any) -> Any:
    first = []
    for response in started(client):
        first.append(response)
        if client.seen.waiting.wait(SOON_S):
            break
    collect(time.monotonic())
    return {"first": first, "gone": within(client.seen.ended.is_set, 1)}


@behaviour(MANY, ending="waits")
def cancelled_unread(client: Any) -> Any:
    call = started(client)
    client.seen.waiting.wait(SOON_S)
    return {"cancel": call.cancel()} | ended(call)


@behaviour(MANY, ending="waits")
def never_iterated(client: Any) -> Any:
    call = started(client)
    sent = client.seen.waiting.wait(SOON_S)
    call.cancel()
    return {"sent at the call": sent}


@behaviour(MANY, loose=True)
def never_iterated_to_its_end(client: Any) -> Any:
    call = started(client)
    done = threading.Event()
    call.add_done_callback(lambda _: done.set())
    return {
        "handler ends": client.seen.ended.wait(SOON_S),
        "told unread": done.wait(0.3),
        "cancel": call.cancel(),
    }


@behaviour(MANY, ending="waits", loose=True)
def never_iterated_and_dropped(client: Any) -> Any:
    call = started(client)
    sent = client.seen.waiting.wait(SOON_S)
    del call
    collect(time.monotonic())
    return {"sent": sent, "gone": within(client.seen.ended.is_set, 1)}


@behaviour(MANY, ending="waits", loose=True, racy=True)
def never_iterated_past_the_deadline(client: Any) -> Any:
    call = started(client, HOLD_S)
    return {"code": call.code().name} | ended(call)


@behaviour(MANY, ending="waits", loose=True, racy=True)
def deadline_in_the_middle(client: Any) -> Any:
    call = started(client, HOLD_S)
    got: list[bytes] = []
    return {"raised": attempt(lambda: got.extend(call)), "next": attempt(lambda: next(call))} | ended(call)


@behaviour(MANY, ending="metadata")
def initial_metadata_first(client: Any) -> Any:
    call = started(client)
    initial = plain(call.initial_metadata())
    return {"initial first": initial, "responses": list(call)} | ended(call)


@behaviour(MANY)
def callbacks_in_order(client: Any) -> Any:
    told: list[Any] = []
    call = started(client)
    call.add_done_callback(lambda given: told.append(("done callback", given.code().name)))
    added = call.add_callback(lambda: told.append("callback"))
    responses = list(call)
    return {"responses": responses, "added": added, "told": within(lambda: len(told) == 2) and told}


@behaviour(MANY, ending="waits")
def cancelled_from_another_thread(client: Any) -> Any:
    call = started(client)
    first = [next(call), next(call)]
    client.seen.waiting.wait(SOON_S)
    timer = threading.Timer(0.05, call.cancel)
    timer.start()
    raised = attempt(lambda: next(call))
    timer.join()
    return {"first": first, "raised": raised} | ended(call)


@behaviour(MANY, ending="waits")
def result_of_a_stream(client: Any) -> Any:
    call = started(client, HOLD_S)
    return {"result": attempt(call.result)} | call_seen(call)


@behaviour(MANY, ending="waits")
def channel_closed_while_open(client: Any) -> Any:
    channel = client.world.connect(client.target)
    stub = getattr(channel, client.case.kind)(client.case.method)
    call = stub(client.request(), timeout=TIMEOUT_S)
    first = next(call)
    client.seen.waiting.wait(SOON_S)
    channel.close()
    return {"first": first, "next": attempt(lambda: (next(call), next(call)))} | call_seen(call)
