# The client's image: the command line and the web page (`web`), without TensorFlow. Build it at the repository's root:
# `make images`, or docker build --file k8s/images/client.Dockerfile .

FROM python:3.11-slim AS build
RUN python -m venv --without-pip /opt/inkling
WORKDIR /build
COPY k8s/images/locks/client.txt .
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/inkling/bin/python install --require-hashes --requirement client.txt

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
LABEL org.opencontainers.image.title="inkling-client" \
      org.opencontainers.image.description="Reads handwriting through a model server: command line and web page" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="MIT"
RUN groupadd --gid 10001 inkling \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin inkling
COPY --from=build /opt/inkling /opt/inkling
COPY --from=program /opt/inkling /opt/inkling
ENV PATH=/opt/inkling/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000
ENTRYPOINT ["python", "-m", "inkling.client"]
