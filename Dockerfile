# One image for every role: `docker run bestex api`, `worker`, `watcher`, `simnet`, or `serve`, which is all in one.
# Its parts are told apart by their command; settings come from the environment (docs/reference/settings.md).

ARG PYTHON=3.13.13-slim-trixie

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
# The versions that are tested together, without what only tests need. pip checks the hash of every one of them.
COPY requirements/requirements.txt deploy/requirements_of.py ./
RUN python requirements_of.py requirements.txt bestex > run.txt \
    && python requirements_of.py requirements.txt hatchling > build.txt \
    && python -m venv --without-pip /opt/bestex \
    && python -m pip --python /opt/bestex/bin/python install --require-hashes --only-binary :all: -r run.txt \
    && python -m pip install --require-hashes --only-binary :all: -r build.txt
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && python -m pip --python /opt/bestex/bin/python install --no-deps dist/*.whl

FROM python:${PYTHON}
# The base image has no compiler; its pip goes, too. The folder is there, so that a volume on it belongs to the user.
RUN rm -rf /usr/local/lib/python3.*/site-packages/pip* /usr/local/lib/python3.*/ensurepip /usr/local/bin/pip* \
    && groupadd --system --gid 10001 bestex \
    && useradd --system --uid 10001 --gid bestex --home-dir /var/lib/bestex --create-home \
        --shell /usr/sbin/nologin bestex
COPY --from=build /opt/bestex /opt/bestex
# BESTEX_HOST stays this machine's own: who opens the engine to a network says so where it runs.
ENV PATH=/opt/bestex/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    BESTEX_DATA_DIR=/var/lib/bestex
WORKDIR /var/lib/bestex
USER bestex
EXPOSE 4000
# The engine itself gets the signal: the exec form starts no shell, and the first SIGTERM stops it in order.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --start-interval=1s --retries=3 CMD ["bestex", "health"]
ENTRYPOINT ["bestex"]
CMD ["serve"]
