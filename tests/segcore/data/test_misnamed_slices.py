"""Slices that a file calls channels are read as slices where nothing else can be meant, and that is said."""

import numpy as np
import pytest
import tifffile

from segcore.config import DataConfig
from segcore.data.dataset import load_training_data
from segcore.data.labels import match_labels, open_labels
from segcore.data.open import open_source
from segcore.data.validate import check_data

RNG = np.random.default_rng(0)
LABELS = (RNG.random((6, 64, 64)) > 0.5).astype(np.uint8)
IMAGES = (100 * LABELS + RNG.integers(0, 50, LABELS.shape)).astype(np.uint8)


def write(path, array, axes=None):
    tifffile.imwrite(path, array, imagej=True, metadata={"axes": axes} if axes else None)
    return path


@pytest.mark.parametrize("image_axes", [None, "ZYX"])
@pytest.mark.parametrize("label_axes", [None, "ZYX"])
def test_a_pair_of_stacks_is_read_as_slices_whoever_forgot_the_axes(tmp_path, image_axes, label_axes):
    images = write(tmp_path / "raw.tif", IMAGES, image_axes)
    labels = write(tmp_path / "labels.tif", LABELS, label_axes)
    data = DataConfig(images=str(images), labels=str(labels), patch_size=32, validation_slices="5")
    report = check_data(data.model_copy(update={"images": str(images), "labels": str(labels)}))
    assert report.ok
    told = [finding.what for finding in report.findings if "calls its 6 slices channels" in finding.what]
    assert len(told) == (image_axes is None) + (label_axes is None)
    loaded = load_training_data(data)
    assert (len(loaded.train), loaded.channels, loaded.axes) == (5, 1, "ZYX")
    np.testing.assert_array_equal(loaded.train[2].image_ZCYX[0, 0], IMAGES[2])


def test_channels_stay_channels_where_the_labels_have_one_plane(tmp_path):
    images = write(tmp_path / "raw.tif", IMAGES[:3], "CYX")
    labels = write(tmp_path / "labels.tif", LABELS[0])
    source = open_source(images)
    assert match_labels(source, open_labels(labels)) is source
    assert source.axes == "CYX"
