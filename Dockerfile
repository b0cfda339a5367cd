# The receiver as an image: web, worker, scheduler and the commands; compose.yaml and deploy/kubernetes say how to run it.
# Nothing is compiled: every library in requirements.lock has a wheel for CPython on x86-64 and ARM.
ARG PYTHON=python:3.13-slim-trixie

FROM ${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/build && python -m venv --without-pip /opt/receiver
WORKDIR /src
COPY requirements.lock requirements-build.lock ./
RUN /opt/build/bin/pip install --require-hashes --only-binary=:all: -r requirements-build.lock \
    && /opt/build/bin/pip --python /opt/receiver install --require-hashes --only-binary=:all: -r requirements.lock
COPY pyproject.toml README.md Procfile .env.example webhooks.example.toml ./
COPY receiver receiver
COPY migrations migrations
COPY examples examples
COPY deploy deploy
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheel . \
    && /opt/build/bin/pip --python /opt/receiver install --no-deps --no-index /wheel/*.whl \
    && /opt/build/bin/pip --python /opt/receiver check

FROM ${PYTHON}
# files: receipts, where FILES_URL names no object store; the one place that the service writes to
RUN groupadd --gid 10001 receiver \
    && useradd --uid 10001 --gid receiver --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin receiver \
    && install --directory --owner=receiver --group=receiver /var/lib/receiver/files
COPY --from=build /opt/receiver /opt/receiver
ENV PATH=/opt/receiver/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    FILES_URL=/var/lib/receiver/files
WORKDIR /var/lib/receiver
USER 10001:10001
EXPOSE 8000
# of web; worker and scheduler have none, and end when they cannot go on
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ.get('PORT') or 8000}/healthz\", timeout=4)"]
CMD ["gunicorn", "--config", "python:receiver.gunicorn_conf", "receiver.wsgi:app"]
