# Two stages: the first compiles and installs, the second runs, without a compiler and without root.
FROM python:3.11-slim AS build
RUN apt-get update && apt-get install --yes --no-install-recommends gcc g++ make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY pyproject.toml Makefile README.md LICENSE ./
COPY server/__init__.py server/
COPY engine/model/native engine/model/native
# The dependencies are a layer of their own: they change less often than the code.
RUN mkdir -p router engine/model/triton training/tasks training/routing_hints adapters_store grammars bench \
    && make install VENV=/opt/venv PYTHON=python3

FROM python:3.11-slim
RUN useradd --system --uid 10001 --no-create-home hotseat \
    && install --directory --owner=hotseat /var/cache/hotseat
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY . .
COPY --from=build /app/engine/model/_native*.so engine/model/
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HF_HUB_OFFLINE=1 \
    HOTSEAT_SERVER__HOST=0.0.0.0 \
    HOTSEAT_MODEL__CACHE_DIR=/var/cache/hotseat
USER hotseat
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/ready', timeout=2)"]
CMD ["python", "-m", "server", "serve", "--port", "8000"]
