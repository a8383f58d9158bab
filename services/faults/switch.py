"""Which faults of one service are on, and with which values."""

import logging
import random
import threading
from dataclasses import dataclass, field

import grpc

from services.faults.catalogue import FAULTS, LONGEST_MS, Fault

CODES = tuple(code.name for code in grpc.StatusCode if code is not grpc.StatusCode.OK)

logger = logging.getLogger("services.faults")


class BadFault(Exception):  # noqa: N818 (a mistake of the user's, not of the program)
    """What was asked for is wrong; the message says what it must be, and what it is."""

    def __init__(self, name: str, value: object, allowed: str) -> None:
        super().__init__(f"{name} must be {allowed}, got {str(value)[:60]!r}")


@dataclass
class Active:
    """A fault that is on: its values, the event that ends it, and what it keeps until then."""

    share: float = 1.0
    ms: float = 0.0
    code: str = ""
    healed: threading.Event = field(default_factory=threading.Event)
    kept: list[bytes] = field(default_factory=list)


class Switch:
    """The faults of one service; all are off at first."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._lock = threading.Lock()
        self._active: dict[str, Active] = {}

    def on(self, name: str, share: str = "", ms: str = "", code: str = "") -> None:
        """Switch a fault on, again if it is on already; an empty value is the default. Raises BadFault."""
        fault = named(name, self._service)
        active = _checked(fault, share, ms, code)
        with self._lock:
            before = self._active.get(name)
            self._active[name] = active
        if before:
            before.healed.set()
        logger.warning("fault on: %s", _shown(fault, active))

    def heal(self) -> list[str]:
        """Switch all off, and release the requests that wait; the names of those that were on."""
        with self._lock:
            healed, self._active = self._active, {}
        for name, active in healed.items():
            active.healed.set()
            logger.warning("fault off: %s", name)
        return list(healed)

    def now(self) -> str:
        """Which are on, with their values."""
        return ", ".join(_shown(FAULTS[name], active) for name, active in list(self._active.items()))

    def active(self, name: str) -> Active | None:
        """The fault, if it is on."""
        return self._active.get(name)

    def drawn(self, name: str) -> Active | None:
        """The fault, if it is on and chance picks this request for its share."""
        active = self._active.get(name)
        return active if active and random.random() < active.share else None  # noqa: S311


def named(name: str, service: str = "") -> Fault:
    """The fault of that name, of the service if one is given. Raises BadFault."""
    known = [fault.name for fault in FAULTS.values() if service in {"", fault.service}]
    if name not in known:
        raise BadFault("NAME", name, f"one of {', '.join(known)}")
    return FAULTS[name]


def _checked(fault: Fault, share: str, ms: str, code: str) -> Active:
    code = code or fault.code or ""
    if code and fault.code is None:
        raise BadFault("CODE", code, f"none for {fault.name}")
    if code and code not in CODES:
        raise BadFault("CODE", code, f"one of {', '.join(CODES)}")
    return Active(
        _number("SHARE", share, fault.share, 1, fault), _number("MS", ms, fault.ms, LONGEST_MS, fault), code
    )


def _number(name: str, text: str, default: float | None, highest: int, fault: Fault) -> float:
    if not text:
        return default or 0
    if default is None:
        raise BadFault(name, text, f"none for {fault.name}")
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not 0 <= number <= highest:
        raise BadFault(name, text, f"a number from 0 to {highest}")
    return number


def _shown(fault: Fault, active: Active) -> str:
    words = [fault.name]
    words += [f"SHARE={active.share:g}"] if fault.share is not None else []
    words += [f"MS={active.ms:g}"] if fault.ms is not None else []
    words += [f"CODE={active.code}"] if fault.code is not None else []
    return " ".join(words)
