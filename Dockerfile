# One image for the service, the worker and the monitor; the command says which (see docs/architecture.md).
#   docker build -t perennial .
#   docker run -p 8000:8000 -e PERENNIAL_HOST=0.0.0.0 -e REDIS_URL=... perennial python -m service --spec examples/flights.toml
#   docker run -e PREFECT_API_URL=... perennial prefect worker start --pool perennial

FROM python:3.12-slim AS build
WORKDIR /app
RUN python -m venv .venv
ENV PATH="/app/.venv/bin:$PATH" PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# Dependencies first: this layer is built anew only when the lock changes.
COPY requirements.lock ./
RUN pip install --no-deps --require-hashes -r requirements.lock
COPY pyproject.toml setup.py README.md LICENSE prefect.yaml ./
COPY examples examples
COPY perennial perennial
COPY service service
COPY monitoring monitoring
COPY tasks tasks
COPY flows flows
COPY deployments deployments
RUN pip install --no-deps --no-build-isolation .

FROM python:3.12-slim
# LightGBM needs the OpenMP run time. Its version is the base image's matter, so that rebuilding brings security fixes.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --create-home perennial \
    && install --directory --owner perennial --group perennial /app /app/var
WORKDIR /app
COPY --from=build /app/.venv .venv
COPY prefect.yaml ./
COPY examples examples
ENV PATH="/app/.venv/bin:$PATH" \
    PYTHONUNBUFFERED=1 \
    PERENNIAL_HOME=/app/var \
    PREFECT_HOME=/app/var/prefect \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    DO_NOT_TRACK=1 \
    OMP_WAIT_POLICY=passive
USER 10001:10001
VOLUME /app/var
EXPOSE 8000
# What is healthy differs by command (the service answers /health), so the orchestrator's probes ask, not the image.
HEALTHCHECK NONE
CMD ["perennial", "--help"]
