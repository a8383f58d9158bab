"""Which names of attributes the services' instrumentations use."""

from collections.abc import Mapping

VARIABLE = "OTEL_SEMCONV_STABILITY_OPT_IN"
STABLE = ("http", "database")


def stable_names(environ: Mapping[str, str]) -> dict[str, str]:
    """What makes OpenTelemetry's instrumentations use the stable names; a choice that was made is kept.

    SQLAlchemy's reads nothing but this variable, so it has to be there when the process starts.
    """
    chosen = [word.strip() for word in environ.get(VARIABLE, "").split(",") if word.strip()]
    missing = [name for name in STABLE if not any(word.split("/")[0] == name for word in chosen)]
    return {VARIABLE: ",".join(chosen + missing)}
