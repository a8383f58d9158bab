"""Whether the two services trust each other: which TLS handshakes fail, why, and what must be set."""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from prometheus_client.parser import text_string_to_metric_families

from services.handshakes import reason_in
from tools.doctor.config import Place
from tools.ports import health_fault
from tools.prometheus import Prometheus
from tools.web import within

REFUSED = "tls_handshakes_refused_total"
DEGRADED = "marketplace_recommendations_degraded_total"
TLS = "TLS_"  # begins the reasons of the shop's degraded pages that are about TLS
CLOCKS = "set the clocks by NTP, or renew"
# By who refuses, which is the other one's certificate, and the reason.
REMEDIES = {
    "marketplace": {
        "unknown_ca": "RECOMMENDATIONS_CA_FILE must hold the CA of TLS_CERT_FILE",
        "expired": "renew TLS_CERT_FILE (make certs)",
        "not_yet_valid": f"{CLOCKS} TLS_CERT_FILE",
        "wrong_name": "TLS_CERT_FILE must name RECOMMENDATIONS_HOST",
        "not_tls": "set TLS_CERT_FILE and TLS_KEY_FILE, or unset RECOMMENDATIONS_CA_FILE",
    },
    "recommendations": {
        "unknown_ca": "TLS_CLIENT_CA_FILE must hold the CA of RECOMMENDATIONS_CERT_FILE",
        "no_certificate": "set RECOMMENDATIONS_CERT_FILE and RECOMMENDATIONS_KEY_FILE",
        "expired": "renew RECOMMENDATIONS_CERT_FILE (make certs)",
        "not_yet_valid": f"{CLOCKS} RECOMMENDATIONS_CERT_FILE",
        "not_tls": "set RECOMMENDATIONS_CA_FILE, _CERT_FILE and _KEY_FILE: it speaks TLS",
    },
}
Refusal = tuple[str, str]  # who refused, and the reason


class Refusals:
    """The handshakes that fail from now on, as both services count them."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._before = self._counts()

    def first(self, shake_again: Callable[[], object] = lambda: None) -> Refusal | None:
        """One of them, or None when there is none for as long as the doctor is patient."""

        def look() -> Refusal | None:
            found = self._look()
            if found is None:
                with suppress(OSError):
                    shake_again()
            return found

        return within(self._place.patience_s, look)

    def _look(self) -> Refusal | None:
        counts = self._counts()
        return next((refusal for refusal in counts if counts[refusal] > self._before[refusal]), None)

    def _counts(self) -> Counter[Refusal]:
        pages = _by_reason(self._place, "marketplace", DEGRADED).items()
        clients = _by_reason(self._place, "recommendations", REFUSED).items()
        counts: Counter[Refusal] = Counter()
        for reason, count in pages:
            if reason.startswith(TLS):
                counts["marketplace", reason.removeprefix(TLS).lower()] = count
        for reason, count in clients:
            counts["recommendations", reason] = count
        return counts


def health(place: Place) -> tuple[str, Refusal | None]:
    """Why the health of recommendations is not SERVING ("" when it is), and the refusal that is the cause."""
    refusals = Refusals(place)
    fault = health_fault(place.services["recommendations"], place.tls, place.name)
    reason = reason_in(fault)
    if reason:
        return fault, ("marketplace", reason)  # as the shop, with the same files, would refuse
    return fault, refusals.first() if "Socket closed" in fault else None


def remedy(place: Place, refusal: Refusal) -> str:
    """What to do about it."""
    who, reason = refusal
    known = REMEDIES[who].get(reason)
    return f'{known}; docs/operations.md, "TLS"' if known else f"read {place.log_of(who)}: details say how"


def _by_reason(place: Place, service: str, name: str) -> dict[str, int]:
    """A counter of the service, from itself, else from the last scrape; empty when nobody answers."""
    try:
        text = place.endpoint(service).read()
    except OSError:
        try:
            series = Prometheus(place.prometheus).query(f'sum by (reason) ({name}{{job="{service}"}})')
        except OSError:
            return {}
        return {one["metric"]["reason"]: int(one["value"][1]) for one in series}
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {sample.labels["reason"]: int(sample.value) for sample in samples if sample.name == name}
