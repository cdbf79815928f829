# One image for everything. By default it runs app, worker and MLflow UI together; compose.yaml runs them apart.
#
#   docker build -t segcore-studio .
#   docker run -p 7860:7860 -p 5000:5000 -v segcore-workspace:/workspace -v segcore-mlruns:/mlruns segcore-studio
#
# PyTorch comes with CUDA (about 6 GB; add --gpus all to docker run). For a machine without an NVIDIA GPU, take PyTorch
# from its CPU index instead (about 2 GB): --build-arg TORCH_OPTIONS="--index <address of PyTorch's CPU index>".

FROM python:3.11-slim

ARG TORCH_OPTIONS=""
ARG UV_VERSION=0.13.8

# Hugging Face Spaces run containers as user 1000.
RUN useradd --create-home --uid 1000 segcore

WORKDIR /opt/segcore
ENV PATH=/opt/segcore/venv/bin:$PATH \
    VIRTUAL_ENV=/opt/segcore/venv \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1

# Requirements first: they change seldom, and their layer is kept as long as they do not.
COPY requirements.txt requirements-dev.txt deploy/install-requirements.sh ./
RUN python -m venv venv \
    && venv/bin/python -m pip install --no-cache-dir --quiet "uv==$UV_VERSION" \
    && sh install-requirements.sh

COPY pyproject.toml README.md LICENSE ./
COPY segcore segcore
COPY app app
RUN uv pip install --no-deps .

# Writable for user 1000 also when no volume is mounted, as on a Hugging Face Space.
RUN mkdir /workspace /mlruns && chown segcore:segcore /workspace /mlruns
ENV SEGCORE_WORKSPACE=/workspace \
    SEGCORE_MLRUNS=/mlruns \
    GIT_PYTHON_REFRESH=quiet \
    GRADIO_ANALYTICS_ENABLED=False \
    MLFLOW_DISABLE_TELEMETRY=true \
    PYTHONUNBUFFERED=1
VOLUME ["/workspace", "/mlruns"]
USER segcore
WORKDIR /home/segcore
EXPOSE 7860 5000

HEALTHCHECK --interval=30s --timeout=10s --start-period=90s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/', timeout=8)"]

CMD ["segcore", "serve", "--host", "0.0.0.0", "--port", "7860"]
