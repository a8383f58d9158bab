"""What blocking clients give with a call, and where they call."""

import copy
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from tests.conformance.case import TIMEOUT_S, Reason
from tests.conformance.client_behaviours import PLAIN, behaviour, standard
from tests.conformance.observations import SOON_S, attempt, call_seen

METADATA = (("repeated", "a"), ("other", "x"), ("repeated", "b"), ("raw-bin", b"\x00\xff"), ("raw-bin", b"2"))


def called(client: Any, **options: Any) -> Any:
    """A call with these options, and what was seen of it."""
    options.setdefault("timeout", TIMEOUT_S)
    request = options.pop("request", None) or client.request()

    def all_of() -> dict[str, Any]:
        if client.streams:
            return {"responses": list(call := client.stub(request, **options))} | call_seen(call)
        response, call = client.stub.with_call(request, **options)
        return {"responses": [response]} | call_seen(call)

    return {"responses": []} | attempt(all_of)


@behaviour(ending="metadata")
def metadata_of_every_sort(client: Any) -> Any:
    given = list(METADATA)
    return called(client, metadata=given) | {"unchanged": given == list(METADATA)}


@behaviour(kinds=PLAIN)
def metadata_as_a_tuple(client: Any) -> Any:
    given = copy.deepcopy(METADATA)
    return called(client, metadata=given) | {"unchanged": given == METADATA}


@behaviour(kinds=PLAIN)
def metadata_empty(client: Any) -> Any:
    return called(client, metadata=())


@behaviour(kinds=PLAIN)
def metadata_as_grpc_aio_has_it(client: Any) -> Any:
    return called(client, metadata=grpc.aio.Metadata(*METADATA))


@behaviour(kinds=PLAIN)
def metadata_as_a_generator(client: Any) -> Any:
    return called(client, metadata=(pair for pair in METADATA))


@behaviour(kinds=PLAIN, entered=False, calls=(4, 0), reason=Reason.CALLS)
def metadata_illegal(client: Any) -> Any:
    return [
        called(client, metadata=given)
        for given in ((("Upper", "a"),), (("key", 5),), (("key", "a", "b"),), ("key",), 5)
    ]


@behaviour(kinds=PLAIN)
def no_timeout(client: Any) -> Any:
    return called(client, timeout=None)


@behaviour(entered=False, ending="waits", reason=Reason.RACE)
def timeout_of_zero(client: Any) -> Any:
    seen = called(client, timeout=0)
    return {key: seen.get(key) for key in ("raised", "code")}


@behaviour(servers=("sync",), entered=False, calls=(1, 0))
def no_server(client: Any) -> Any:
    client.stub = client.stub_on(client.world.connect(f"unix:{client.world.folder}/nobody.sock"))
    seen = called(client)
    return {"responses": [], "code": seen["code"], "raised": seen["raised"]}


@behaviour(servers=("sync",))
def wait_for_ready(client: Any) -> Any:
    """The server comes up while the call waits for it."""
    address = f"unix:{client.world.folder}/late-{client.case.kind}.sock"
    client.stub = client.stub_on(client.world.connect(address))
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(called, client, wait_for_ready=True)
        time.sleep(0.1)
        with ThreadPoolExecutor(2) as workers:
            server = grpc.server(workers, interceptors=client.world.stack.server("sync"))
            server.add_generic_rpc_handlers((client.world.methods,))
            server.add_insecure_port(address)
            server.start()
            try:
                return pending.result(20)
            finally:
                server.stop(1).wait(5)


@behaviour(kinds=("unary_unary", "stream_stream"), ending="large")
def compression(client: Any) -> Any:
    """A hundred thousand zeros each way, and how many bytes went through the wire."""
    with client.world.wire(client.target) as (target, count):
        client.stub = client.stub_on(client.world.connect(target))
        seen = called(client, request=large(client), compression=grpc.Compression.Gzip)
    sizes = {"responses": [len(response) for response in seen["responses"]], "code": seen["code"]}
    return sizes | {"bytes out": count["out"] < 20_000, "bytes in": count["in"] < 20_000}


def large(client: Any) -> Any:
    return bytes(100_000) if client.case.kind.startswith("unary") else iter([bytes(100_000)])


@behaviour(transport="tls")
def call_credentials(client: Any) -> Any:
    token = grpc.access_token_call_credentials("secret")
    return called(client, credentials=token, metadata=METADATA)


class Plugin(grpc.AuthMetadataPlugin):
    """Gives the name of the method and the service that it was asked for."""

    def __call__(self, context: Any, callback: Any) -> None:
        callback((("asked", f"{context.method_name}"),), None)


@behaviour(transport="tls", kinds=PLAIN)
def call_credentials_by_a_plugin(client: Any) -> Any:
    return called(client, credentials=grpc.metadata_call_credentials(Plugin()))


@behaviour(kinds=PLAIN, entered=False, calls=(1, 0))
def call_credentials_without_tls(client: Any) -> Any:
    return called(client, credentials=grpc.access_token_call_credentials("secret"))


for transport in ("ipv6", "unix", "tls"):
    behaviour(PLAIN, transport=transport, name=f"over {transport}")(standard)


@behaviour(entered=False, calls=(0, 0), reason=Reason.CALLS)
def unknown_methods(client: Any) -> Any:
    seen = {}
    for method in ("/conformance.Cases/Unknown", "/no.such.Service/Method", "/", "//", "/a", "/a/b/c"):
        client.stub = client.stub_on(client.channel, method)
        seen[method] = called(client)
    return seen


@behaviour(reason=Reason.CALLS)
def methods_without_a_slash(client: Any) -> Any:
    seen = {}
    for method in ("NoSlash", "a/b", ""):
        client.stub = client.stub_on(client.channel, method)
        seen[method] = called(client)
    return seen


@behaviour(transport="limited", ending="waits", calls=(3, 3), reason=Reason.CALLS)
def one_call_too_many(client: Any) -> Any:
    """With maximum_concurrent_rpcs=1 a second call is refused, and one after the first is not."""
    with client.world.alone:
        first: list[Any] = []
        thread = threading.Thread(target=lambda: first.append(called(client)))
        thread.start()
        client.seen.entered.wait(SOON_S)
        second = called(client)
        client.seen.released.set()
        thread.join(10)
        time.sleep(0.05)  # the server counts the call as open a moment longer
        return {"second": second, "third": called(client), "first": first}
