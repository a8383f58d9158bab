# The images of compose.yaml, one target each: docker build --target marketplace .
ARG PYTHON=python:3.13-slim-trixie

# The services' dependencies, and the code that both have. Two builds give the same layers: compiled code does not hold
# the time of its source, each file has the same date, and so has each folder, as what is copied is a folder's content.
FROM ${PYTHON} AS build
WORKDIR /build
COPY requirements.txt requirements-dev.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv --without-pip /venv \
    && pip --python /venv/bin/python install --no-compile --require-hashes --requirement requirements.txt \
    && python -m compileall -q --invalidation-mode unchecked-hash /venv \
    && mkdir /packages && mv /venv /packages \
    && find /packages -exec touch --no-dereference --date=2000-01-01 {} +
# What generates the protobuf code, out of the same lock; it stays out of the images.
RUN --mount=type=cache,target=/root/.cache/pip \
    awk '/^[a-z]/ {wanted = /^(grpcio-tools|setuptools)==/} wanted' requirements-dev.txt > tools.txt \
    && pip --python /packages/venv/bin/python install --require-hashes --no-deps --target /tools --requirement tools.txt
WORKDIR /code/app
COPY protobufs protobufs
RUN PYTHONPATH=/tools /packages/venv/bin/python -m grpc_tools.protoc -I. --python_out=. --grpc_python_out=. protobufs/*.proto
COPY observability observability
COPY services services
RUN python -m compileall -q --invalidation-mode unchecked-hash .

FROM build AS build-marketplace
RUN rm -r services/recommendations && find . -exec touch --date=2000-01-01 {} +

FROM build AS build-recommendations
RUN rm -r services/marketplace && find . -exec touch --date=2000-01-01 {} +

FROM ${PYTHON} AS marketplace
LABEL org.opencontainers.image.title="marketplace" \
      org.opencontainers.image.description="The shop of the bookshop, with traces, metrics and logs" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH="/venv/bin:$PATH" PYTHONFAULTHANDLER=1 BIND_HOST=0.0.0.0 DATABASE_URL=sqlite:////tmp/marketplace.sqlite3
COPY --from=build /packages /
COPY --from=build-marketplace /code /
WORKDIR /app
USER 10001:10001
EXPOSE 5000 9101
# bash, because starting Python for each probe would cost more than serving a page.
HEALTHCHECK --interval=3s --timeout=2s --retries=3 CMD ["bash", "-c", \
    "exec 3<>/dev/tcp/127.0.0.1/${MARKETPLACE_PORT:-5000}; printf 'GET /readyz HTTP/1.0\\r\\n\\r\\n' >&3; read -r _ status _ <&3; ((status == 200))"]
CMD ["python", "-m", "services.marketplace"]

FROM ${PYTHON} AS recommendations
LABEL org.opencontainers.image.title="recommendations" \
      org.opencontainers.image.description="Recommends books over gRPC, with traces, metrics and logs" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH="/venv/bin:$PATH" PYTHONFAULTHANDLER=1 BIND_HOST=0.0.0.0
COPY --from=build /packages /
COPY --from=build-recommendations /code /
WORKDIR /app
USER 10001:10001
EXPOSE 50051 9102
HEALTHCHECK --interval=5s --timeout=3s --retries=3 CMD ["python", "-I", "services/recommendations/probe.py"]
CMD ["python", "-m", "services.recommendations"]

# One port of the machine for all instances of recommendations.
FROM ${PYTHON} AS entry
LABEL org.opencontainers.image.title="entry" \
      org.opencontainers.image.description="Passes connections on to recommendations" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends socat \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
USER 10001:10001
EXPOSE 50051
HEALTHCHECK --interval=5s --timeout=2s --retries=3 CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/50051"]
CMD ["socat", "TCP-LISTEN:50051,fork,reuseaddr", "TCP:recommendations:50051"]

# A development CA and certificates of both services, for mutual TLS between them.
FROM ${PYTHON} AS build-certs
WORKDIR /build
COPY requirements-dev.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv --without-pip /venv \
    && awk '/^[a-z]/ {wanted = /^(cryptography|cffi|pycparser)==/} wanted' requirements-dev.txt > requirements.txt \
    && pip --python /venv/bin/python install --require-hashes --no-deps --requirement requirements.txt

FROM ${PYTHON} AS certs
LABEL org.opencontainers.image.title="certs" \
      org.opencontainers.image.description="Makes a development CA and certificates of both services, once" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH="/venv/bin:$PATH"
COPY --from=build-certs /venv /venv
COPY tools/certs.py /app/
# A new volume has the owner of the folder that it covers.
RUN install --directory --owner=10001 --group=10001 --mode=0750 /certs
WORKDIR /app
USER 10001:10001
CMD ["python", "certs.py", "/certs"]

FROM ${PYTHON} AS build-load
COPY tools/load/requirements.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv --without-pip /venv \
    && pip --python /venv/bin/python install --require-hashes --requirement requirements.txt

FROM ${PYTHON} AS load
LABEL org.opencontainers.image.title="load" \
      org.opencontainers.image.description="People who visit the shop, at a steady rate" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH="/venv/bin:$PATH" HOME=/tmp LOCUST_HOST=http://marketplace:5000
COPY --from=build-load /venv /venv
COPY tools/load/people.py /app/
WORKDIR /app
USER 10001:10001
EXPOSE 9103
HEALTHCHECK --interval=5s --timeout=2s --retries=3 CMD ["bash", "-c", \
    "exec 3<>/dev/tcp/127.0.0.1/9103; printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3; read -r _ status _ <&3; ((status == 200))"]
CMD ["locust", "--locustfile", "people.py", "--headless", "--only-summary", "--loglevel", "WARNING", "--stop-timeout", "2", "--exit-code-on-error", "0"]

# The tests in the services' Python: docker compose run --rm --build test
FROM ${PYTHON} AS test
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends make git \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /app
RUN chown 10001:10001 .
COPY Makefile requirements-dev.txt ./
COPY protobufs protobufs
COPY examples examples
RUN --mount=type=cache,target=/root/.cache/pip make protobufs
COPY . .
USER 10001:10001
ENV HOME=/tmp
CMD ["make", "test"]
