"""Addresses: a file or folder, an array within it (`volumes.h5::raw`), a URL, or weights on a hub."""

from __future__ import annotations

import os
import re

INSIDE = "::"
"""Stands between a file and the array within it, as in `volumes.h5::raw`."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(::[A-Za-z][A-Za-z0-9+.-]+)*://")
"""One letter and a colon is a drive, not a protocol; fsspec chains protocols with colons."""
IMAGENET = "imagenet"
"""As pretrained weights: those that the library of a network has for it."""
COCO = "coco"
"""As pretrained weights: those of a whole network that was trained to find the objects of COCO."""
WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
FOREIGN = {
    ".onnx": "ONNX",
    ".pt": "TorchScript",
    ".pt2": "torch.export",
    ".keras": "Keras",
    ".h5": "Keras (HDF5)",
}
"""Files of networks made by other programs → what they are called."""
_HUB = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w.-]+(/[\w.-]+)*))?")


def is_url(address: str | os.PathLike[str]) -> bool:
    """Say whether an address leads out of the file system, as https://… and s3://… do.

    Examples
    --------
    >>> is_url("s3://bucket/image.zarr"), is_url("C:/image.tif"), is_url("volumes.h5::raw")
    (True, False, False)
    """
    return _URL.match(os.fspath(address)) is not None


def split_address(address: str | os.PathLike[str]) -> tuple[str, str]:
    """Return the file, folder or URL, and the name of the array within it, "" if none is named.

    Examples
    --------
    >>> split_address("data/volumes.h5::raw/0")
    ('data/volumes.h5', 'raw/0')
    >>> split_address("https://server/plate.zarr::A/1")
    ('https://server/plate.zarr', 'A/1')
    """
    text = os.fspath(address)
    start = _URL.match(text)
    begin = start.end() if start else 0
    file, _, name = text[begin:].partition(INSIDE)
    return text[:begin] + file, name


def join_address(file: str | os.PathLike[str], name: str) -> str:
    """Return the address of an array within a file; the opposite of `split_address`."""
    return f"{os.fspath(file)}{INSIDE}{name}" if name else os.fspath(file)


def absolute_address(address: str) -> str:
    """Return an address that means the same from any folder; URLs stay as they are."""
    if is_url(address):
        return address
    file, name = split_address(address)
    # Unlike Path.resolve, realpath does not raise where links form a circle: whoever opens it will tell.
    return join_address(os.path.realpath(os.path.expanduser(file)), name)


def split_hub_id(reference: str) -> tuple[str, str | None] | None:
    """Return repository and revision if a reference to weights has the form of an id of the hub, else None.

    A folder can have that form, too: whoever knows where folders lie looks there first.

    Examples
    --------
    >>> split_hub_id("nvidia/mit-b0"), split_hub_id("nvidia/mit-b0@main")
    (('nvidia/mit-b0', None), ('nvidia/mit-b0', 'main'))
    >>> split_hub_id("data/encoder.pth"), split_hub_id("owner/name@../../etc")
    (None, None)
    """
    named = _HUB.fullmatch(reference)
    if named is None or ".." in reference or reference.endswith(WEIGHT_SUFFIXES):
        return None
    return named["repo"], named["revision"]


def is_foreign(reference: str | os.PathLike[str]) -> bool:
    """Say whether a reference to a model has the name of a network made by another program.

    Examples
    --------
    >>> is_foreign("net.onnx"), is_foreign("best_model.pth"), is_foreign("models:/net.onnx")
    (True, False, False)
    """
    text = os.fspath(reference)
    return os.path.splitext(text)[1].lower() in FOREIGN and not text.startswith("models:/")


def is_model_file(reference: str | os.PathLike[str]) -> bool:
    """Say whether a reference to a model has the name of a file, not of a run or a registered model.

    Examples
    --------
    >>> is_model_file("best_model.pth"), is_model_file("net.keras"), is_model_file("0f3a")
    (True, True, False)
    """
    text = os.fspath(reference)
    return is_foreign(text) or (text.endswith(".pth") and not text.startswith("models:/"))
