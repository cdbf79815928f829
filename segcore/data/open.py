"""Opening an image: address in, ImageSource out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from segcore.addresses import INSIDE, split_address
from segcore.card import PixelSize
from segcore.data.hdf5 import open_hdf5
from segcore.data.integrity import check_readable, check_whole
from segcore.data.nifti import open_nifti
from segcore.data.numpy_files import open_npy, open_npz
from segcore.data.pictures import SUFFIXES as PICTURES
from segcore.data.pictures import open_picture
from segcore.data.renamed import Renamed
from segcore.data.source import ImageSource
from segcore.data.tiff import TiffSource
from segcore.data.zarr_files import is_zarr, open_zarr
from segcore.errors import DataError

SUFFIXES = (".tif", ".tiff", ".npy", ".npz", ".h5", ".hdf5", ".nii", ".nii.gz", ".zarr", *PICTURES)
"""Names of files (and Zarr folders) that `open_source` takes."""
_SEVERAL: dict[str, Callable[[Path, str, str | None], ImageSource]] = {
    ".npz": open_npz, ".h5": open_hdf5, ".hdf5": open_hdf5,
}  # fmt: skip
_SINGLE: dict[str, Callable[[Path, str | None], ImageSource]] = {
    ".npy": open_npy, ".nii": open_nifti, ".gz": open_nifti, **dict.fromkeys(PICTURES, open_picture),
}  # fmt: skip


@dataclass(frozen=True)
class Probe:
    """What the header of an image says; no pixel was read for it."""

    axes: str
    shape: tuple[int, ...]
    dtype: str
    pixel_size: PixelSize
    notes: tuple[str, ...] = ()


def open_source(address: str | Path, axes: str | None = None) -> ImageSource:
    """Open an image for lazy reading.

    Parameters
    ----------
    address : str or Path
        A TIFF, NumPy, HDF5, NIfTI, PNG, JPEG or BMP file, or the folder of a Zarr. Where a file holds
        several arrays: `volumes.h5::raw`.
    axes : str, optional
        Axes of the image where its metadata is missing or wrong, for example CYX.

    Raises
    ------
    DataError
        The file is missing, empty, of an unknown kind, cut off, damaged, or not an image of numbers; or
        `axes` do not fit it.
    """
    place, name = split_address(address)
    file = Path(place)
    if is_zarr(file):
        return open_zarr(file, name, axes)
    suffix = file.suffix.lower()
    if suffix in _SEVERAL:
        check_readable(file)
        return _SEVERAL[suffix](file, name, axes)
    if name:
        raise DataError(f"{file} holds one image only.", f"Leave out {INSIDE}{name}.")
    if suffix in _SINGLE:
        check_readable(file)
        return _SINGLE[suffix](file, axes)
    check_whole(file)
    return TiffSource(file, axes)


def probe(address: str | Path, axes: str | None = None) -> Probe:
    """Return what the header of an image says, for lists of many files.

    Raises
    ------
    DataError
        See `open_source`.
    """
    source = open_source(address, axes)
    return Probe(source.axes, source.shape, str(source.dtype), source.pixel_size, source.notes)


def open_labels(path: Path) -> ImageSource:
    """Open a label file. Labels have no channels: channels in front of the rows are read as slices.

    Raises
    ------
    DataError
        The file cannot be read.
    """
    return read_as_slices(open_source(path))


def match_labels(images: ImageSource, labels: ImageSource) -> ImageSource:
    """Return `images`, with channels read as slices if only so they have the axes of their labels."""
    if images.axes != labels.axes and images.shape == labels.shape:
        as_slices = read_as_slices(images)
        if as_slices.axes == labels.axes:
            return as_slices
    return images


def read_as_slices(source: ImageSource) -> ImageSource:
    """Return `source` with its channels read as slices, with a note, or as it is if it has slices.

    Some writers call every unnamed axis of an ImageJ file "channels"; a stack of 30 slices then looks like
    one slice with 30 channels. Colour samples (C behind Y and X) are never slices.
    """
    if not source.axes.startswith("C") or {"Z", "T"} & set(source.axes):
        return source
    axes = source.axes.replace("C", "Z")
    note = f"{source.path.name} calls its {source.shape[0]} slices channels; read as {axes}."
    return Renamed(source, axes, note)
