"""Why a TLS handshake failed: one of a few reasons, found in the words that gRPC's core has for it.

The words are in its log, and in the details of calls that had no connection because of it.
"""

# By reason, the first that fits: words of BoringSSL, which makes the handshakes, and of gRPC.
WORDS = {
    "wrong_name": ("No match found for server name", "Hostname Verification Check failed"),
    "no_certificate": ("PEER_DID_NOT_RETURN_A_CERTIFICATE",),
    "expired": ("certificate has expired",),
    "not_yet_valid": ("certificate is not yet valid",),
    "unknown_ca": (
        "unable to get local issuer certificate",
        "unable to get issuer certificate",
        "unable to verify the first certificate",
        "self signed certificate",
        "self-signed certificate",
        "certificate signature failure",
    ),
    "protocol_version": ("UNSUPPORTED_PROTOCOL", "ALERT_PROTOCOL_VERSION", "INAPPROPRIATE_FALLBACK"),
    "not_tls": ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST"),
    "refused_by_peer": ("_ALERT_",),
    "other": ("andshake failed",),
}
REASONS = tuple(WORDS)


def reason_in(text: str) -> str | None:
    """Why a handshake failed, if the text says that one did."""
    if not any(word in text for word in (*WORDS["wrong_name"], *WORDS["other"])):
        return None
    return next(reason for reason, words in WORDS.items() if any(word in text for word in words))
