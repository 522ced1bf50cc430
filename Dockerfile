# Two images from one file; each runs as a user without rights, needs no file system but /app/var and /tmp to be writable, and ends
# in order on SIGTERM as process 1. docs/image.md has the commands, the probes of each role, and the sizes.
#   docker build --target serve -t perennial:serve .    # the service alone: python -m service --spec ...
#   docker build --target full -t perennial .           # every command: worker, monitor, training, service

# Pin it where images are built for others: --build-arg BASE=docker.io/library/python:3.12-slim@sha256:...
ARG BASE=docker.io/library/python:3.12-slim

FROM ${BASE} AS tools
# binutils has strip, libgomp1 is what LightGBM needs to be imported. Versions are the base image's matter.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends binutils libgomp1 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
# What installs is not installed with the rest: the environments have no pip.
RUN python3 -m venv tools && python3 -m venv --without-pip /app/.venv

FROM tools AS wheel
COPY requirements.lock ./
RUN sed -n '/^setuptools==/,/[^\\]$/p' requirements.lock > setuptools.lock \
    && tools/bin/pip install --no-deps --require-hashes -r setuptools.lock
COPY pyproject.toml setup.py README.md LICENSE prefect.yaml requirements-triage.lock ./
COPY examples examples
COPY perennial perennial
COPY service service
COPY monitoring monitoring
COPY tasks tasks
COPY flows flows
COPY deployments deployments
RUN tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir wheels .

# Dependencies first: that layer is built anew only when the lock changes. What only debuggers and developers of the libraries read
# goes: the symbols of extension modules (polars' are 40 MB, uvloop's 14) and the libraries' own tests. The shared libraries in
# `*.libs` stay as they are: their authors have patched them, and stripping such a file can break it.
FROM tools AS build-serve
COPY requirements-serve.lock ./
RUN tools/bin/pip --python /app/.venv install --no-compile --no-deps --require-hashes -r requirements-serve.lock \
    && find /app/.venv \( -path '*/numpy/*' -o -path '*/scipy/*' \) -type d -name tests -prune -exec rm -r {} + \
    && find /app/.venv -name '*.so' -not -path '*.libs/*' -exec strip --strip-unneeded {} +
COPY --from=wheel /build/wheels wheels
# Compiled is what a worker imports, and nothing else: all of it would be 50 MB, most of them for modules that no one opens.
RUN tools/bin/pip --python /app/.venv install --no-compile --no-deps wheels/*.whl \
    && tools/bin/pip --python /app/.venv inspect > /app/.venv/packages.json \
    && /app/.venv/bin/python -c "import service.server, service.worker, perennial.learners.lightgbm, uvloop, httptools"

FROM tools AS build-full
COPY requirements-full.lock ./
RUN tools/bin/pip --python /app/.venv install --no-deps --require-hashes -r requirements-full.lock \
    && find /app/.venv \( -path '*/numpy/*' -o -path '*/scipy/*' -o -path '*/pandas/*' -o -path '*/sklearn/*' -o -path '*/pyarrow/*' \) \
        -type d -name tests -prune -exec rm -r {} + \
    && find /app/.venv -name '*.so' -not -path '*.libs/*' -exec strip --strip-unneeded {} +
COPY --from=wheel /build/wheels wheels
RUN tools/bin/pip --python /app/.venv install --no-deps wheels/*.whl \
    && tools/bin/pip --python /app/.venv inspect > /app/.venv/packages.json

FROM ${BASE} AS run
# LightGBM needs the OpenMP run time; rebuilding brings security fixes.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* \
    && useradd --uid 10001 --user-group --home-dir /app/var --no-create-home perennial \
    && install --directory --owner perennial --group perennial /app /app/var
WORKDIR /app
ENV PATH="/app/.venv/bin:$PATH" \
    HOME=/app/var \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    PERENNIAL_HOME=/app/var \
    PREFECT_HOME=/app/var/prefect \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    DO_NOT_TRACK=1 \
    OMP_WAIT_POLICY=passive
USER 10001:10001
VOLUME /app/var
EXPOSE 8000
# What is healthy differs by role (docs/image.md), so the orchestrator's probes ask, not the image.
HEALTHCHECK NONE
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="perennial" \
      org.opencontainers.image.description="Tabular models that keep themselves fresh" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM run AS serve
COPY --from=build-serve /app/.venv .venv
CMD ["python", "-m", "service", "--help"]

FROM run AS full
COPY --from=build-full /app/.venv .venv
CMD ["perennial", "--help"]
