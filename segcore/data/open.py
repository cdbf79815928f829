"""Opening an image: address in, ImageSource out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from segcore.addresses import INSIDE, is_url, split_address
from segcore.card import PixelSize
from segcore.data.bio import SUFFIXES as MICROSCOPES
from segcore.data.bio import open_bio
from segcore.data.dicom import SUFFIXES as DICOM
from segcore.data.dicom import is_dicom_file, is_dicom_series, open_dicom
from segcore.data.hdf5 import open_hdf5
from segcore.data.integrity import check_readable, check_whole
from segcore.data.nifti import open_nifti
from segcore.data.numpy_files import open_npy, open_npz
from segcore.data.pictures import SUFFIXES as PICTURES
from segcore.data.pictures import open_picture
from segcore.data.source import ImageSource
from segcore.data.tiff import TiffSource
from segcore.data.zarr_files import is_zarr, open_zarr
from segcore.errors import DataError

SUFFIXES = (
    ".tif", ".tiff", ".npy", ".npz", ".h5", ".hdf5", ".nii", ".nii.gz", ".zarr", *PICTURES, *DICOM,
    *MICROSCOPES,
)  # fmt: skip
"""Names of files (and Zarr folders) that `open_source` takes."""
_SEVERAL: dict[str, Callable[[Path, str, str | None], ImageSource]] = {
    ".npz": open_npz, ".h5": open_hdf5, ".hdf5": open_hdf5, **dict.fromkeys(MICROSCOPES, open_bio),
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
        A TIFF, NumPy, HDF5, NIfTI, DICOM, CZI, ND2, LIF, PNG, JPEG or BMP file, the folder of a Zarr or of
        a DICOM series, or the URL of a Zarr. Where it holds several arrays: `volumes.h5::raw`.
    axes : str, optional
        Axes of the image where its metadata is missing or wrong, for example CYX.

    Raises
    ------
    DataError
        The file is missing, empty, of an unknown kind, cut off, damaged, or not an image of numbers; or
        `axes` do not fit it; a server is away.
    """
    place, name = split_address(address)
    if is_url(place):
        return _open_url(place, name, axes)
    file = Path(place)
    if is_zarr(file):
        return open_zarr(file, name, axes)
    if is_dicom_series(file):
        return open_dicom(file, name, axes)
    suffix = file.suffix.lower()
    if suffix in _SEVERAL:
        check_readable(file)
        return _SEVERAL[suffix](file, name, axes)
    if name:
        raise DataError(f"{file} holds one image only.", f"Leave out {INSIDE}{name}.")
    if suffix in _SINGLE:
        check_readable(file)
        return _SINGLE[suffix](file, axes)
    if suffix in DICOM or is_dicom_file(file):
        check_readable(file)
        return open_dicom(file, axes=axes)
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


def _open_url(url: str, name: str, axes: str | None) -> ImageSource:
    suffix = PurePosixPath(url.partition("?")[0]).suffix.lower()
    if suffix in SUFFIXES and suffix != ".zarr":
        raise DataError(
            f"{url} cannot be read from where it is: of {suffix} files no part can be asked for.",
            "Download it; only Zarr and OME-Zarr are read from addresses.",
        )
    return open_zarr(url, name, axes)
