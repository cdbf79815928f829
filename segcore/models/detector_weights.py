"""Weights of Mask R-CNN: those that torchvision offers, kept where its own client keeps them, or a file."""

from __future__ import annotations

import hashlib
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import torch
from torch import Tensor

from segcore.errors import ModelError
from segcore.files import atomic_path
from segcore.models.encoder_weights import TIMEOUT, find_weights, read_state

WEIGHTS: dict[str, dict[tuple[str, int], str]] = {
    "coco": {
        ("resnet50", 1): "https://download.pytorch.org/models/maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth",
        ("resnet50", 2): "https://download.pytorch.org/models/maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth",
    },
    "imagenet": {
        (name, version): f"https://download.pytorch.org/models/{file}"
        for name, file in {
            "resnet18": "resnet18-f37072fd.pth",
            "resnet34": "resnet34-b627a593.pth",
            "resnet50": "resnet50-11ad3fa6.pth",
            "resnet101": "resnet101-cd907fc2.pth",
        }.items()
        for version in (1, 2)
    },
}
"""Where the weights of a ResNet and a version lie, by their name here."""


def read_detector(pretrained: str, backbone: str, version: int) -> tuple[dict[str, Tensor], str]:
    """Return the weights called "coco" or "imagenet", of a file or of a hub id, and where they come from.

    Raises
    ------
    ModelError
        They are not there, or cannot be read.
    """
    if pretrained in WEIGHTS:
        path = fetch_file(WEIGHTS[pretrained][backbone, version])
    else:
        path = find_weights(pretrained)
    state = {name.removeprefix("network."): weight for name, weight in read_state(path).items()}
    return state, str(path)


def fetch_file(url: str) -> Path:
    """Return a file of torchvision: from the cache of its own client, else fetched and checked.

    Raises
    ------
    ModelError
        It is not here, and the server does not answer, or sent something else.
    """
    name = Path(urlsplit(url).path).name
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.is_file():
        return path
    from huggingface_hub import constants  # one switch for all that is fetched

    beginning = name.removesuffix(".pth").rpartition("-")[2]
    digest = hashlib.sha256()
    try:
        if constants.HF_HUB_OFFLINE:
            raise OSError("downloads are switched off here (HF_HUB_OFFLINE)")
        with atomic_path(path) as temporary:
            with urlopen(url, timeout=TIMEOUT) as answer, temporary.open("wb") as stream:
                while block := answer.read(1 << 20):
                    digest.update(block)
                    stream.write(block)
            if not digest.hexdigest().startswith(beginning):
                raise OSError("what came is not this file")
    except (OSError, HTTPException) as error:  # of the network, the proxy or the disk
        raise ModelError(
            f"The weights {name} are not on this machine, and cannot be fetched: {error}.",
            f"Download {url} where there is a network and copy it to {path.parent}; or train without "
            "pretrained weights.",
        ) from error
    return path
