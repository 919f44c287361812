# The service for production, without a MongoDB. docs/deployment.md says how to build and run it.
# The base has Python 3.11 or newer with `venv`: an official slim image, or Debian with python3 and python3-venv.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

# hadolint ignore=DL3006
FROM ${BASE} AS build
COPY requirements.txt deploy/requirements.sed /build/
WORKDIR /build
# pip stays in an environment of its own. Wheels only: nothing is compiled.
RUN sed -f requirements.sed requirements.txt > image.txt \
    && python3 -m venv pip \
    && python3 -m venv --without-pip /opt/venv \
    && pip/bin/pip --python /opt/venv/bin/python install --no-cache-dir --no-compile --only-binary :all: --require-hashes -r image.txt
COPY . /app
# The checkout may have been private to its owner. The bytecode is valid whatever the times of the files.
RUN rm /app/requirements.txt /app/deploy/requirements.sed \
    && chmod -R a+rX /app \
    && /opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv /app

# hadolint ignore=DL3006
FROM ${BASE}
# The base's pip and the wheels of `venv` are not needed any more.
RUN rm -rf /usr/local/lib/python3*/site-packages/* /usr/local/lib/python3*/ensurepip /usr/local/bin/pip* \
        /usr/lib/python3*/ensurepip /usr/share/python-wheels \
    && useradd --no-log-init --uid 10001 --user-group --home-dir /nonexistent --shell /usr/sbin/nologin driftwatch
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    DRIFTWATCH_ENV=production
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "deploy/healthcheck.py", "/livez"]
CMD ["gunicorn", "--config", "deploy/gunicorn.conf.py", "driftwatch.wsgi"]

ARG VERSION=unknown
LABEL org.opencontainers.image.title="Drift Watch" \
      org.opencontainers.image.description="Stores, queries and manages the results of drift detection on machine-learning models." \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
