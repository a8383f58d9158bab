"""The address in a gRPC target.

Forms: https://github.com/grpc/grpc/blob/master/doc/naming.md
"""

import re

SCHEME = re.compile(r"^(\w+://[^/]*/|dns:|ipv4:|ipv6:)")
HOST_AND_PORT = re.compile(r"(\[[^\]]+\]|[^:,]+):([0-9]{1,5})")


def address_of(target: str) -> tuple[str, int | None]:
    """Host and port of a target; the path of a socket, or a list of addresses, comes back as it is."""
    if target.startswith("unix:"):
        return target.removeprefix("unix:").removeprefix("//"), None
    name = SCHEME.sub("", target)
    found = HOST_AND_PORT.fullmatch(name)
    return (found[1].strip("[]"), int(found[2])) if found else (name, None)
