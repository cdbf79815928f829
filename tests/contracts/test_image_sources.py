"""One suite for every ImageSource and every flavour of its format: what is read is what was written."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pydicom
import pytest
import tifffile
import zarr
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from segcore.card import PixelSize
from segcore.data import tiff
from segcore.data.channels import Calibrated, Chosen, Joined
from segcore.data.open import open_source
from segcore.data.planes import Planes
from segcore.data.source import ImageSource


@dataclass(frozen=True)
class Flavour:
    """A way to store an image: how it is written and what must be read."""

    name: str
    axes: str
    shape: tuple[int, ...]
    dtype: str = "uint8"
    options: dict[str, Any] = field(default_factory=dict)
    suffix: str = ".tif"

    def pixels(self) -> np.ndarray:
        """Return random pixels over the whole range of the data type."""
        rng = np.random.default_rng(len(self.name))
        if self.dtype == "bool":
            return rng.random(self.shape) < 0.5
        if self.dtype.startswith("float"):
            return rng.normal(0, 100, self.shape).astype(self.dtype)
        limits = np.iinfo(self.dtype)
        return rng.integers(limits.min, limits.max, self.shape, self.dtype, endpoint=True)

    def write(self, path: Path) -> np.ndarray:
        """Write the image and return its pixels."""
        pixels = self.pixels()
        WRITERS[self.suffix](path, pixels, self)
        return pixels


def write_tiff(path: Path, pixels: np.ndarray, flavour: Flavour) -> None:
    tifffile.imwrite(path, pixels, **{"photometric": "minisblack", **flavour.options})


def write_pyramid(path: Path, pixels: np.ndarray, flavour: Flavour) -> None:
    with tifffile.TiffWriter(path, ome=flavour.options["ome"]) as writer:
        options: dict[str, Any] = {"photometric": "minisblack", "tile": (16, 16)}
        writer.write(pixels, subifds=2, metadata={"axes": flavour.axes}, **options)
        for step in (2, 4):
            writer.write(pixels[..., ::step, ::step], subfiletype=1, **options)


def write_dicom(path: Path, pixels: np.ndarray, flavour: Flavour) -> None:
    path.mkdir()
    for z, plane in enumerate(pixels):
        dataset = pydicom.Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2"
        dataset.Rows, dataset.Columns = plane.shape
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 8 * plane.itemsize
        dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, int(plane.dtype.kind == "i")
        dataset.InstanceNumber, dataset.PixelData = z, plane.tobytes()
        dataset.save_as(path / f"{len(pixels) - z}.dcm", enforce_file_format=True)


def write_npy(path: Path, pixels: np.ndarray, flavour: Flavour) -> None:
    np.save(path, np.asarray(pixels, **flavour.options))


def write_npz(path: Path, pixels: np.ndarray, flavour: Flavour) -> None:
    np.savez_compressed(path, raw=pixels)


def write_hdf5(path: Path, pixels: np.ndarray, flavour: Flavour) -> None:
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("volumes/raw", data=pixels, **flavour.options)
        file.create_dataset("numbers", data=[1, 2, 3])
        for dimension, axis in zip(dataset.dims, flavour.axes, strict=True):
            dimension.label = axis.lower()


def write_nifti(path: Path, pixels: np.ndarray, flavour: Flavour) -> None:
    nibabel.save(nibabel.Nifti1Image(pixels.transpose(), np.eye(4)), path)


def write_picture(path: Path, pixels: np.ndarray, flavour: Flavour) -> None:
    Image.fromarray(pixels).save(path)


def write_zarr(path: Path, pixels: np.ndarray, flavour: Flavour) -> None:
    version = flavour.options["zarr_format"]
    names = {"dimension_names": list(flavour.axes.lower())} if version == 3 else {}
    attributes = {} if version == 3 else {"_ARRAY_DIMENSIONS": list(flavour.axes.lower())}
    chunks = tuple(min(size, 8) for size in pixels.shape)
    array = zarr.create_array(
        path, shape=pixels.shape, dtype=pixels.dtype, chunks=chunks, zarr_format=version,
        attributes=attributes, **names,
    )  # fmt: skip
    array[...] = pixels


def write_ome_zarr(path: Path, pixels: np.ndarray, flavour: Flavour) -> None:
    version = flavour.options["zarr_format"]
    same = [{"type": "scale", "scale": [1.0] * pixels.ndim}]
    levels = [{"path": path, "coordinateTransformations": same} for path in ("0", "1")]
    axes = [{"name": axis.lower(), "type": KINDS[axis]} for axis in flavour.axes]
    image = {"axes": axes, "datasets": levels}
    ome = {"ome": {"version": "0.5", "multiscales": [image]}} if version == 3 else {"multiscales": [image]}
    group = zarr.create_group(path, zarr_format=version, attributes=ome)
    for level, part in enumerate((pixels, pixels[..., ::2, ::2])):
        group.create_array(str(level), data=part)


KINDS = {"T": "time", "C": "channel", "Z": "space", "Y": "space", "X": "space"}
WRITERS: dict[str, Callable[[Path, np.ndarray, Flavour], None]] = {
    ".tif": write_tiff, ".npy": write_npy, ".npz": write_npz, ".h5": write_hdf5, ".nii": write_nifti,
    ".nii.gz": write_nifti, ".png": write_picture, ".bmp": write_picture, ".zarr": write_zarr,
    ".ome.zarr": write_ome_zarr, ".pyramid.tif": write_pyramid, ".dicom": write_dicom,
}  # fmt: skip


def named(axes: str) -> dict[str, Any]:
    return {"metadata": {"axes": axes}}


FLAVOURS = [
    Flavour("imagej-8bit", "ZYX", (4, 30, 41), "uint8", {"imagej": True, **named("ZYX")}),
    Flavour("imagej-16bit-time", "TYX", (4, 30, 41), "uint16", {"imagej": True, **named("TYX")}),
    Flavour("imagej-float-hyperstack", "TZCYX", (2, 3, 2, 9, 7), "float32",
            {"imagej": True, **named("TZCYX")}),
    Flavour("imagej-zlib", "ZCYX", (3, 2, 19, 17), "uint16",
            {"imagej": True, "compression": "zlib", **named("ZCYX")}),
    Flavour("imagej-single", "YX", (31, 17), "uint16", {"imagej": True}),
    Flavour("ome-16bit", "CZYX", (2, 3, 21, 33), "uint16", {"ome": True, **named("CZYX")}),
    Flavour("ome-tiled-zstd", "TCYX", (2, 3, 40, 50), "float32",
            {"ome": True, "tile": (16, 16), "compression": "zstd", **named("TCYX")}),
    Flavour("ome-big", "ZYX", (3, 20, 21), "uint8", {"ome": True, "bigtiff": True, **named("ZYX")}),
    Flavour("plain-zlib-pages", "ZYX", (5, 22, 31), "uint16", {"compression": "zlib", "predictor": True}),
    Flavour("plain-lzw-strips", "YX", (64, 31), "uint8", {"compression": "lzw", "rowsperstrip": 7}),
    Flavour("plain-big-endian", "ZYX", (3, 22, 31), "uint16", {"byteorder": ">"}),
    Flavour("plain-big-endian-zlib", "ZYX", (3, 22, 31), "int32", {"byteorder": ">", "compression": "zlib"}),
    Flavour("plain-unnamed-pages", "ZYX", (3, 22, 31), "uint8", {"metadata": None}),
    Flavour("plain-int8", "ZYX", (2, 12, 13), "int8"),
    Flavour("plain-uint32", "ZYX", (2, 12, 13), "uint32"),
    Flavour("plain-float64", "ZYX", (2, 12, 13), "float64"),
    Flavour("plain-float16", "YX", (12, 13), "float16", {"compression": "zlib"}),
    Flavour("plain-bool", "ZYX", (2, 12, 16), "bool"),
    Flavour("tiled-uncompressed", "YX", (100, 90), "uint16", {"tile": (32, 16)}),
    Flavour("colour", "YXC", (33, 21, 3), "uint8", {"photometric": "rgb"}),
    Flavour("colour-planar", "CYX", (3, 33, 21), "uint8", {"photometric": "rgb", "planarconfig": "separate"}),
    Flavour("pyramid", "YX", (100, 90), "uint16", {"ome": False}, ".pyramid.tif"),
    Flavour("ome-pyramid", "CYX", (2, 100, 90), "uint8", {"ome": True}, ".pyramid.tif"),
    Flavour("dicom-series", "ZYX", (4, 12, 14), "int16", suffix=".dicom"),
    Flavour("npy", "ZYX", (3, 12, 13), "uint16", suffix=".npy"),
    Flavour("npy-fortran-order", "ZYX", (3, 12, 13), "float32", {"order": "F"}, ".npy"),
    Flavour("npy-big-endian", "YX", (12, 13), "uint16", {"dtype": ">u2"}, ".npy"),
    Flavour("npy-colour", "YXC", (12, 13, 3), suffix=".npy"),
    Flavour("npz", "ZYX", (3, 12, 13), "bool", suffix=".npz"),
    Flavour("hdf5", "CZYX", (2, 3, 12, 13), "uint16", {"chunks": (1, 1, 5, 5), "compression": "gzip"}, ".h5"),
    Flavour("hdf5-float", "ZYX", (3, 12, 13), "float64", suffix=".h5"),
    Flavour("nifti", "ZYX", (3, 12, 13), "int16", suffix=".nii"),
    Flavour("nifti-series-gz", "TZYX", (2, 3, 12, 13), "float32", suffix=".nii.gz"),
    Flavour("png", "YX", (12, 13), suffix=".png"),
    Flavour("png-16bit", "YX", (12, 13), "uint16", suffix=".png"),
    Flavour("png-1bit", "YX", (12, 13), "bool", suffix=".png"),
    Flavour("png-colour", "YXC", (12, 13, 3), suffix=".png"),
    Flavour("bmp-colour", "YXC", (12, 13, 3), suffix=".bmp"),
    Flavour("zarr-2", "ZYX", (9, 20, 13), "uint16", {"zarr_format": 2}, ".zarr"),
    Flavour("zarr-3", "TCYX", (2, 2, 20, 13), "float32", {"zarr_format": 3}, ".zarr"),
    Flavour("ome-zarr-0.4", "TCZYX", (2, 2, 3, 12, 14), "uint16", {"zarr_format": 2}, ".ome.zarr"),
    Flavour("ome-zarr-0.5", "CZYX", (2, 3, 12, 14), "uint8", {"zarr_format": 3}, ".ome.zarr"),
]  # fmt: skip


def _files(folder: Path, axes: str, parts: list[np.ndarray]) -> list[ImageSource]:
    """Write one TIFF per channel file and open them."""
    for number, part in enumerate(parts):
        tifffile.imwrite(folder / f"{number}.tif", part, photometric="minisblack", metadata={"axes": axes})
    return [open_source(folder / f"{number}.tif") for number in range(len(parts))]


def join_planes(folder: Path) -> tuple[ImageSource, np.ndarray]:
    """Join three files of a slice each."""
    pixels = Flavour("joined", "CYX", (3, 12, 14), "uint16").pixels()
    return Joined(_files(folder, "YX", list(pixels))), pixels


def join_stacks(folder: Path) -> tuple[ImageSource, np.ndarray]:
    """Join a stack of one channel with a stack of two, of another type."""
    pixels = Flavour("joined stacks", "ZCYX", (4, 3, 12, 14), "uint8").pixels().astype(np.uint16)
    one, two = pixels[:, 0].astype(np.uint8), pixels[:, 1:] + np.uint16(0)
    first = _files(folder, "ZYX", [one])[0]
    (folder / "two").mkdir()
    return Joined([first, _files(folder / "two", "ZCYX", [two])[0]]), pixels


def choose_channels(folder: Path) -> tuple[ImageSource, np.ndarray]:
    """Choose channels of five, out of order."""
    pixels = Flavour("chosen", "CZYX", (5, 3, 12, 14), "float32").pixels()
    return Chosen(_files(folder, "CZYX", [pixels])[0], (4, 0, 2)), pixels[[4, 0, 2]]


def choose_colour(folder: Path) -> tuple[ImageSource, np.ndarray]:
    """Choose the green of a colour picture."""
    pixels = Flavour("colours", "YXC", (12, 14, 3)).pixels()
    Image.fromarray(pixels).save(folder / "image.png")
    return Chosen(open_source(folder / "image.png"), (1,)), pixels[..., 1:2]


def calibrate(folder: Path) -> tuple[ImageSource, np.ndarray]:
    """Give a stack a pixel size."""
    pixels = Flavour("calibrated", "ZYX", (3, 12, 14)).pixels()
    return Calibrated(_files(folder, "ZYX", [pixels])[0], PixelSize(y=0.5, x=0.5)), pixels


WRAPPERS = [join_planes, join_stacks, choose_channels, choose_colour, calibrate]
Opened = tuple[Any, np.ndarray]


@pytest.fixture(params=["pages", "segments"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Read pages as a whole, or as huge pages are read: segment by segment."""
    if request.param == "segments":
        monkeypatch.setattr(tiff, "_HUGE_PAGE", 0)
    return str(request.param)


@pytest.fixture(
    params=[*FLAVOURS, *WRAPPERS],
    ids=lambda way: way.name if isinstance(way, Flavour) else way.__name__.replace("_", "-"),
)
def opened(request: pytest.FixtureRequest, tmp_path: Path, reader: str) -> Opened:
    if not isinstance(request.param, Flavour):
        return request.param(tmp_path)
    path = tmp_path / f"image{request.param.suffix}"
    pixels = request.param.write(path)
    source = open_source(path)
    assert source.axes == request.param.axes
    return source, pixels


def whole(source: Any) -> np.ndarray:
    return source.read((slice(None),) * len(source.axes))


def test_reads_what_was_written(opened: Opened) -> None:
    source, pixels = opened
    assert source.shape == pixels.shape
    assert source.dtype == pixels.dtype
    assert source.dtype.isnative
    read = whole(source)
    assert read.dtype == pixels.dtype
    assert np.array_equal(read, pixels)


def test_every_region_is_that_part_of_the_whole(opened: Opened) -> None:
    source, pixels = opened
    rng = np.random.default_rng(0)
    for _ in range(12):
        region = tuple(slice(*sorted(rng.integers(0, size + 1, 2).tolist())) for size in pixels.shape)
        assert np.array_equal(source.read(region), pixels[region])


def test_threads_may_read_at_once(opened: Opened) -> None:
    source, pixels = opened
    rows = source.axes.index("Y")
    regions = [
        tuple(slice(step, None) if axis == rows else slice(None) for axis in range(pixels.ndim))
        for step in range(8)
    ]
    with ThreadPoolExecutor(4) as threads:
        for region, part in zip(regions, threads.map(source.read, regions), strict=True):
            assert np.array_equal(part, pixels[region])


def test_what_is_read_belongs_to_the_reader(opened: Opened) -> None:
    source, pixels = opened
    first = whole(source)
    first[...] = 0
    assert np.array_equal(whole(source), pixels)


def test_no_file_stays_open(opened: Opened) -> None:
    source, _ = opened
    whole(source)
    links = (Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd"))
    assert str(source.path) not in [os.readlink(link) for link in links if link.is_symlink()]


def test_a_region_that_is_none_is_refused(opened: Opened) -> None:
    source, _ = opened
    with pytest.raises(IndexError):
        source.read((slice(None),))
    with pytest.raises(IndexError):
        source.read((slice(None, None, 2),) * len(source.axes))


def test_planes_hold_all_pixels_in_channel_row_column_order(opened: Opened) -> None:
    source, pixels = opened
    planes = Planes(source)
    order = [source.axes.index(axis) for axis in source.axes if axis in "TZ"]
    order += [source.axes.index(axis) for axis in "CYX" if axis in source.axes]
    expected = pixels.transpose(order).reshape(planes.count, planes.channels, planes.height, planes.width)
    assert np.array_equal(np.stack([planes.read(index) for index in range(planes.count)]), expected)
