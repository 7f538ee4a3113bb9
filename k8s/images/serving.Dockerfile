# The embedded server's image: `python -m inkling.serving`, with TensorFlow Serving's flags. Build it at the repository's root:
# `make images`, or docker build --file k8s/images/serving.Dockerfile .

# TensorFlow, and an image with no more than that, as train.Dockerfile has it to the letter, so that both builds
# share the stages and both images the layers.
FROM python:3.11-slim AS tensorflow
ARG TENSORFLOW=tensorflow
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends binutils \
    && rm -rf /var/lib/apt/lists/*
RUN python -m venv --without-pip /opt/inkling
WORKDIR /build
COPY k8s/images/locks/${TENSORFLOW}.txt .
# Headers and libclang serve those who compile against TensorFlow, symbol tables those who debug it: 0.7 GB.
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/inkling/bin/python install --require-hashes --requirement "${TENSORFLOW}.txt" \
    && rm -r /opt/inkling/lib/python3.11/site-packages/tensorflow/include /opt/inkling/lib/python3.11/site-packages/clang \
    && strip --strip-unneeded /opt/inkling/lib/python3.11/site-packages/tensorflow/*.so.2

# The account has a name, which Ray asks for; its number is what the manifests use.
FROM python:3.11-slim AS runtime
RUN groupadd --gid 10001 inkling \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin inkling
COPY --from=tensorflow /opt/inkling /opt/inkling

FROM tensorflow AS build
COPY k8s/images/locks/serving.txt .
RUN touch /built-tensorflow
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/inkling/bin/python install --require-hashes --requirement serving.txt
# What came after TensorFlow, as a layer of its own.
WORKDIR /opt/inkling
RUN mkdir /added \
    && find . -cnewer /built-tensorflow ! -type d -print0 > /added.list \
    && tar --create --file /added.tar --null --files-from /added.list \
    && tar --extract --file /added.tar --directory /added

# The program, alone in an environment that the last stage lays over the other; a change of it is this layer's.
FROM python:3.11-slim AS program
RUN python -m venv --without-pip /opt/inkling \
    && python -m venv --without-pip /opt/build
WORKDIR /build
COPY k8s/images/locks/build.txt .
RUN pip --python /opt/build/bin/python install --no-cache-dir --require-hashes --requirement build.txt
COPY serving serving
RUN pip --python /opt/build/bin/python wheel --no-cache-dir --no-build-isolation --no-deps --wheel-dir /wheels ./serving \
    && pip --python /opt/inkling/bin/python install --no-cache-dir --no-deps /wheels/*.whl

FROM runtime
ARG VERSION=0.2.0
LABEL org.opencontainers.image.title="inkling-serving" \
      org.opencontainers.image.description="Serves SavedModels over the TensorFlow Serving API" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /added /opt/inkling
COPY --from=program /opt/inkling /opt/inkling
ENV PATH=/opt/inkling/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp
USER 10001:10001
WORKDIR /tmp
EXPOSE 8500 8501
ENTRYPOINT ["python", "-m", "inkling.serving"]
