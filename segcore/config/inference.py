"""Options of a segmentation, of the device, and of who is told at the end."""

from __future__ import annotations

from typing import Literal

from segcore.config.option import CLUSTER_PATTERN, WEBHOOK_PATTERN, Section, option


class InferenceConfig(Section):
    """How a trained model is applied."""

    model: str | None = option(
        None,
        "A run folder, a .pth file (with its config.json beside it), models:/name@alias, or a model of "
        "another program with its description beside it: .onnx, .pt (TorchScript), .pt2 (torch.export), "
        ".keras, .h5.",
        label="Model",
        form="hidden",
    )
    config_file: str | None = option(
        None,
        "The model's config.json, where it does not lie beside the .pth file; of a model of another program "
        "its description.",
        label="Model configuration",
        form="hidden",
    )
    probabilities: bool = option(
        False,
        "Also write the probability of every class.",
        label="Save probabilities",
    )
    rescale: bool = option(
        False,
        "Resample images whose pixels have another size than those of the training, and write the result on "
        "their own grid.",
        label="Adapt the pixel size",
    )
    flips: bool = option(
        False,
        "Predict every image also flipped along rows and columns, and average: a little better, four times "
        "the work.",
        label="Average over flips",
        form="more",
    )
    ensemble: list[str] = option(
        [],
        "Further models whose probabilities are averaged with those of the first, for example the folds of "
        "one training.",
        label="Further models",
        form="more",
    )
    format: Literal["tiff", "ome-zarr"] = option(
        "tiff",
        "File format of the result: TIFF (ImageJ or OME, BigTIFF where it is large), or OME-Zarr 0.5 with a "
        "pyramid.",
        label="File format",
        form="more",
    )
    backend: Literal["torch", "openvino"] = option(
        "torch",
        "What computes on a CPU: PyTorch, or OpenVINO where it is installed.",
        label="Backend",
        form="more",
    )
    join_slices: float = option(
        0.0,
        "Least overlap (IoU) from which objects of neighbouring slices are one object in depth; 0: those of "
        "every slice stay apart. For 2d and 2.5d models that learned objects; 0.25 is usual.",
        label="Join objects of slices",
        form="more",
        ge=0,
        le=1,
    )
    cluster: str | None = option(
        None,
        "Predict on a Dask cluster: local:N for N processes here, tcp://HOST:PORT or tls://HOST:PORT of a "
        "scheduler, or slurm.",
        label="Cluster",
        form="more",
        pattern=CLUSTER_PATTERN,
    )
    tile_size: int | None = option(
        None,
        "Side of the tiles a slice is cut into; by default whole slices where they fit into memory.",
        label="Tile size",
        unit="px",
        form="more",
        ge=64,
        multiple_of=64,
    )


class HardwareConfig(Section):
    """Where the arithmetic is done."""

    device: Literal["auto", "cpu", "cuda", "mps"] = option(
        "auto",
        "Device to compute on; auto takes CUDA, then MPS, then the CPU.",
        label="Device",
        form="more",
    )
    precision: Literal["auto", "bf16", "fp16", "fp32"] = option(
        "auto",
        "Number format of the arithmetic; auto takes the fastest the device does well.",
        label="Precision",
        form="more",
    )


class NotifyConfig(Section):
    """Who is told when the job ends."""

    webhook: str | None = option(
        None,
        "Address that gets a JSON message when the job ends, for example of a chat room; by default "
        "SEGCORE_WEBHOOK_URL.",
        label="Webhook",
        form="more",
        pattern=WEBHOOK_PATTERN,
    )
