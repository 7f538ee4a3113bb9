# The image of batch jobs, which read a bucket of pictures: the client with Ray (`batch`), without TensorFlow. A KubeRay
# image for the head, the workers and the submitter alike. Build it at the repository's root: k8s/images/build.sh batch, or
# docker build --file k8s/images/batch.Dockerfile .

FROM python:3.11-slim AS build
RUN python -m venv --without-pip /opt/inkling
WORKDIR /build
COPY k8s/images/locks/batch.txt .
# Ray's Java, tests and headers: 0.1 GB that nothing here runs.
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/inkling/bin/python install --require-hashes --requirement batch.txt \
    && rm -r /opt/inkling/lib/python3.11/site-packages/ray/jars \
        /opt/inkling/lib/python3.11/site-packages/pandas/tests \
        /opt/inkling/lib/python3.11/site-packages/pyarrow/tests \
        /opt/inkling/lib/python3.11/site-packages/pyarrow/include

# The program, alone in an environment that the last stage lays over the other; a change of it is this layer's.
FROM python:3.11-slim AS program
RUN python -m venv --without-pip /opt/inkling \
    && python -m venv --without-pip /opt/build
WORKDIR /build
COPY k8s/images/locks/build.txt .
RUN pip --python /opt/build/bin/python install --no-cache-dir --require-hashes --requirement build.txt
COPY client client
RUN pip --python /opt/build/bin/python wheel --no-cache-dir --no-build-isolation --no-deps --wheel-dir /wheels ./client \
    && pip --python /opt/inkling/bin/python install --no-cache-dir --no-deps /wheels/*.whl

FROM python:3.11-slim
ARG VERSION=0.2.0
LABEL org.opencontainers.image.title="inkling-batch" \
      org.opencontainers.image.description="Reads a bucket of pictures on Ray through a model server" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="MIT"
RUN groupadd --gid 10001 inkling \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin inkling
COPY --from=build /opt/inkling /opt/inkling
COPY --from=program /opt/inkling /opt/inkling
# Everything that is written goes below /tmp or into a mounted volume: the root file system may be read-only.
ENV PATH=/opt/inkling/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    RAY_USAGE_STATS_ENABLED=0
USER 10001:10001
WORKDIR /tmp
ENTRYPOINT ["python", "-m", "inkling.client.batch"]
