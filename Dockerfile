# Anatograph without root and without network:
#   docker build --tag anatograph .
#   docker run --rm --network none --user "$(id -u):$(id -g)" --volume "$PWD:/work" anatograph doctor cohort.csv
# For a GPU: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128, and `docker run --gpus all`.
FROM python:3.11-slim-bookworm AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN python -m venv /opt/anatograph \
    && /opt/anatograph/bin/pip install --no-cache-dir --extra-index-url "$TORCH_INDEX" \
        --constraint constraints.txt '.[ants,baselines,dask,lungmask,report]'

FROM python:3.11-slim-bookworm
RUN useradd --create-home --uid 1000 anatograph
COPY --from=build /opt/anatograph /opt/anatograph
# Caches of libraries go where any user may write.
ENV PATH=/opt/anatograph/bin:$PATH \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    NUMBA_CACHE_DIR=/tmp/numba \
    PYTHONUNBUFFERED=1
USER 1000
WORKDIR /work
ENTRYPOINT ["anatograph"]
CMD ["--help"]
