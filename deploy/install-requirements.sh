#!/bin/sh
# Installs the pinned requirements into $VIRTUAL_ENV, with the PostgreSQL driver that the MLflow server needs.
#
# $TORCH_OPTIONS: where to find another build of PyTorch of the pinned version, as options for uv, for example
# "--index ADDRESS" or "--find-links FOLDER". The CUDA libraries, which only the default build needs, are then left out.
set -eu

requirements=requirements.txt
if [ -n "${TORCH_OPTIONS:-}" ]; then
    pinned=$(grep -E '^torch==' requirements.txt)
    # shellcheck disable=SC2086 # several options in one variable
    uv pip install --no-deps $TORCH_OPTIONS "$pinned+cpu"
    requirements=$(mktemp)
    grep -vE '^(torch|triton|nvidia-|cuda-)' requirements.txt > "$requirements"
fi
uv pip install -r "$requirements"
uv pip install "$(grep -E '^psycopg2-binary==' requirements-dev.txt)"
