"""Nasty NumPy, HDF5, NIfTI and Zarr files; see `nasty`."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numcodecs
import numpy as np
import zarr
from nasty import DEEP, GREY, HUGE, STACK, cut, noise, reads, refused


def npy(folder: Path, pixels: Any, **options: Any) -> Path:
    np.save(folder / "image.npy", pixels, **options)
    return folder / "image.npy"


def npy_header(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    stream = io.BytesIO()
    facts = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, facts)
    return stream.getvalue()


# --- NumPy

reads("npy-big-endian", DEEP)(lambda folder: npy(folder, DEEP.astype(">u2")))
reads("npy-float16-in-columns", noise(40, 50, dtype="float16"))(
    lambda folder: npy(folder, np.asfortranarray(noise(40, 50, dtype="float16")))
)
reads("npy-axes-of-size-1", GREY)(lambda folder: npy(folder, GREY[None, None, :, :, None]))
refused("npy-six-axes", "not named")(lambda folder: npy(folder, noise(2, 2, 2, 2, 9, 9)))
refused("npy-single-number", "no image")(lambda folder: npy(folder, np.uint8(3)))
refused("npy-list-of-numbers", "no image")(lambda folder: npy(folder, noise(9)))
refused("npy-nothing", "no image")(lambda folder: npy(folder, np.zeros((0, 9), np.uint8)))
refused("npy-complex", "complex128")(lambda folder: npy(folder, noise(9, 9, dtype="complex128")))
refused("npy-dates", "datetime64")(lambda folder: npy(folder, np.zeros((9, 9), "datetime64[s]")))
refused("npy-text", "<U3")(lambda folder: npy(folder, np.full((9, 9), "abc")))
refused("npy-structured", "cannot|holds")(
    lambda folder: npy(folder, np.zeros((9, 9), [("a", "u1"), ("b", "u2")]))
)
refused("npy-objects", "cannot be opened")(
    lambda folder: npy(folder, np.array([[{}, []]], dtype=object), allow_pickle=True)
)
refused("npy-cut-off-in-pixels", "cannot be opened")(lambda folder: cut(npy(folder, DEEP), 0.5))
refused("npy-cut-off-in-header", "cannot be opened")(lambda folder: cut(npy(folder, DEEP), 0.01))


@refused("npy-huge-header", "cannot be opened")
def _(folder: Path) -> Path:
    (folder / "image.npy").write_bytes(npy_header(HUGE) + bytes(900))
    return folder / "image.npy"


@refused("npy-header-of-four-gigabytes", "cut off")
def _(folder: Path) -> Path:
    (folder / "image.npy").write_bytes(
        b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + b"{'descr'" + b"(" * 900
    )
    return folder / "image.npy"


def npz(folder: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(folder / "image.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return folder / "image.npz"


@refused("npz-bomb", "unpack")
def _(folder: Path) -> Path:
    path = folder / "image.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as member:
        member.write(npy_header((257 * 1024, 1024)))
        for _ in range(257):
            member.write(bytes(2**20))
    return path


reads("npz-that-climbs-out", GREY)(
    lambda folder: npz(folder, {"../../secret.npy": npy_header(GREY.shape) + GREY.tobytes()})
)
refused("npz-huge-header", "lacks")(lambda folder: npz(folder, {"a.npy": npy_header(HUGE) + bytes(900)}))
refused("npz-of-two-arrays", "holds 2 arrays")(
    lambda folder: npz(folder, {f"{name}.npy": npy_header((9, 9)) + bytes(81) for name in "ab"})
)
refused("npz-of-text", "cannot be opened")(lambda folder: npz(folder, {"a.txt": b"no array"}))
refused("npz-empty", "holds 0 arrays")(lambda folder: npz(folder, {}))
refused("npz-cut-off", "damaged or cut off")(
    lambda folder: cut(npz(folder, {"a.npy": npy_header((40, 50)) + GREY.tobytes()}), 0.6)
)


# --- HDF5


def hdf5(folder: Path, pixels: Any = None, **options: Any) -> Path:
    with h5py.File(folder / "image.h5", "w") as file:
        file.create_dataset("raw", data=pixels, **options)
    return folder / "image.h5"


reads("hdf5-of-gaps", np.zeros((3, 40, 50), np.uint8), "ZYX", notes="does not say")(
    lambda folder: hdf5(folder, shape=(3, 40, 50), dtype="u1", chunks=(1, 8, 8))
)
refused("hdf5-huge-header", "declares")(
    lambda folder: hdf5(folder, shape=HUGE, dtype="u1", chunks=(64, 64), compression="gzip")
)
refused("hdf5-huge-chunk", "declares")(
    lambda folder: hdf5(folder, shape=(2, 40, 50), maxshape=HUGE[:1] + HUGE, dtype="u1", chunks=(1, *HUGE))
)
refused("hdf5-cut-off", "cannot be opened")(lambda folder: cut(hdf5(folder, DEEP), 0.5))
refused("hdf5-of-text", "holds 0 images")(lambda folder: hdf5(folder, "a text"))
refused("hdf5-of-pairs", "holds 0 images")(
    lambda folder: hdf5(folder, np.zeros((9, 9), [("a", "u1"), ("b", "u2")]))
)


@refused("hdf5-pixels-in-another-file", "another file")
def _(folder: Path) -> Path:
    (folder.parent / "secret.raw").write_bytes(GREY.tobytes())
    outside = [(os.fspath(folder.parent / "secret.raw"), 0, GREY.size)]
    return hdf5(folder, shape=GREY.shape, dtype="u1", external=outside)


@refused("hdf5-virtual-pixels-of-another-file", "another file")
def _(folder: Path) -> Path:
    secret = hdf5(folder.parent.parent, GREY)
    with h5py.File(folder / "image.h5", "w") as file:
        layout = h5py.VirtualLayout(GREY.shape, "u1")
        layout[:] = h5py.VirtualSource(secret, "raw", GREY.shape)
        file.create_virtual_dataset("raw", layout)
    return folder / "image.h5"


@refused("hdf5-link-to-another-file", "holds 0 images")
def _(folder: Path) -> Path:
    secret = hdf5(folder.parent.parent, GREY)
    with h5py.File(folder / "image.h5", "w") as file:
        file["raw"] = h5py.ExternalLink(secret, "raw")
    return folder / "image.h5"


@reads("hdf5-axes-that-do-not-fit", STACK, "ZYX", notes="does not say")
def _(folder: Path) -> Path:
    path = hdf5(folder, STACK)
    with h5py.File(path, "a") as file:
        file["raw"].attrs["axistags"] = json.dumps({"axes": [{"key": "y"}, {"key": "x"}]})
        file["raw"].attrs["element_size_um"] = "large"
    return path


# --- NIfTI


def nifti(folder: Path, name: str = "image.nii", **fields: Any) -> Path:
    image = nibabel.Nifti1Image(STACK.transpose(), np.eye(4))
    nibabel.save(image, folder / name)
    if fields:
        header = image.header.copy()
        for field, value in fields.items():
            header[field] = value
        content = bytearray((folder / name).read_bytes())
        content[:348] = header.binaryblock
        (folder / name).write_bytes(bytes(content))
    return folder / name


reads("nifti", STACK, "ZYX")(nifti)
refused("nifti-huge-header", "cut off")(lambda folder: nifti(folder, dim=[3, 25_000, 32_000, 2, 1, 1, 1, 1]))
refused("nifti-negative-sizes", "cannot be opened|no image|cut off")(
    lambda folder: nifti(folder, dim=[3, -50, 40, 3, 1, 1, 1, 1])
)
refused("nifti-cut-off", "cut off")(lambda folder: cut(nifti(folder), 0.7))
refused("nifti-gz-cut-off", "cannot be read")(lambda folder: cut(nifti(folder, "image.nii.gz"), 0.7))
refused("nifti-of-colours", "cut off")(lambda folder: nifti(folder, datatype=128, bitpix=24))


@refused("nifti-gz-huge-header", "cut off")
def _(folder: Path) -> Path:
    header = nifti(folder, dim=[3, 25_000, 32_000, 2, 1, 1, 1, 1]).read_bytes()
    (folder / "huge.nii.gz").write_bytes(gzip.compress(header[:1000]))
    return folder / "huge.nii.gz"


# --- Zarr


def zarr_folder(folder: Path, pixels: np.ndarray | None = GREY, **options: Any) -> Path:
    array = zarr.create_array(
        folder / "image.zarr", **{"shape": (40, 50), "dtype": "u1", "chunks": (20, 25), **options}
    )
    if pixels is not None:
        array[...] = pixels
    return folder / "image.zarr"


def ome_zarr(folder: Path, **image: Any) -> Path:
    axes = [{"name": name, "type": "space"} for name in "yx"]
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1]}]}
    group = zarr.create_group(
        folder / "image.zarr",
        zarr_format=2,
        attributes={"multiscales": [{"axes": axes, "datasets": [level], **image}]},
    )
    group.create_array("0", data=GREY)
    return folder / "image.zarr"


reads("zarr-of-gaps", np.zeros((40, 50), np.uint8))(lambda folder: zarr_folder(folder, None))
refused("zarr-huge-header", "declares")(
    lambda folder: zarr_folder(folder, None, shape=HUGE, chunks=(500, 500))
)
refused("zarr-huge-chunk", "declares")(lambda folder: zarr_folder(folder, None, shape=(9, 9), chunks=HUGE))
refused("zarr-chunk-beyond-all-memory", "chunks of")(
    lambda folder: zarr_folder(folder, None, shape=(9, 9), chunks=(2**20, 2**20))
)
refused("ome-zarr-without-levels", "cannot be opened")(lambda folder: ome_zarr(folder, datasets=[]))
refused("ome-zarr-whose-level-is-gone", "cannot be opened")(
    lambda folder: ome_zarr(folder, datasets=[{"path": "9"}])
)
refused("ome-zarr-of-one-axis-twice", "only once")(
    lambda folder: ome_zarr(folder, axes=[{"name": "x", "type": "space"}] * 2)
)


@refused("zarr-corrupt-chunk", "cannot be read")
def _(folder: Path) -> Path:
    path = zarr_folder(folder)
    (path / "c" / "0" / "0").write_bytes(b"\xff" * 40)
    return path


@refused("zarr-corrupt-header", "cannot be opened")
def _(folder: Path) -> Path:
    path = zarr_folder(folder)
    (path / "zarr.json").write_text("{" * 2000)
    return path


@refused("zarr-that-runs-programs", "cannot be opened")
def _(folder: Path) -> Path:
    return zarr_folder(folder, None, zarr_format=2, compressors=numcodecs.Pickle())


@refused("zarr-without-header", "is a folder")
def _(folder: Path) -> Path:
    path = zarr_folder(folder)
    (path / "zarr.json").unlink()
    return path
