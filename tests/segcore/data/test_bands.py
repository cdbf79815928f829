"""Of a single sparse slice, rows validate that show what the other rows show."""

import numpy as np
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from segcore.config import build_config
from segcore.data.bands import choose_rows
from segcore.data.dataset import load_training_data


def test_the_usual_rows_validate_where_both_sides_show_every_class():
    dense = [(5, 5)] * 128
    assert choose_rows(dense, (112, 128), 0.2, 16) == (112, 128)
    assert choose_rows((), (112, 128), 0.2, 16) == (112, 128)


@given(
    counts=arrays.arrays(
        np.int64, st.tuples(st.integers(48, 200), st.integers(1, 3)), elements=st.integers(0, 2)
    ),
    empty=st.integers(0, 150),
    fraction=st.floats(0.05, 0.5),
)
@settings(deadline=None, max_examples=60)
def test_a_band_lies_inside_and_leaves_something(counts, empty, fraction):
    counts[-min(empty, len(counts)) :] = 0
    usual = (len(counts) - 16, len(counts))
    start, stop = choose_rows(counts.tolist(), usual, fraction, 16)
    assert 0 <= start < stop <= len(counts)
    assert stop - start < len(counts)
    if (start, stop) != usual:
        assert start % 16 == 0
        assert stop % 16 == 0 or stop == len(counts)
        # Never worse than the usual rows.
        total = counts.sum(0)
        shares = [counts[a:b].sum(0)[total > 0] / total[total > 0] for a, b in ((start, stop), usual)]
        missing = [((share == 0) | (share == 1)).sum() for share in shares]
        assert missing[0] <= missing[1]


def test_scribbles_in_the_upper_part_of_an_image_train_and_validate(tmp_path):
    labels = np.zeros((256, 96), np.uint8)
    labels[10:120:6, 10:40] = 1
    labels[60:150:6, 50:70] = 2
    raw = np.random.default_rng(0).integers(0, 255, labels.shape).astype(np.uint8)
    for name, image in (("raw.tif", raw), ("labels.tif", labels)):
        tifffile.imwrite(tmp_path / name, image)
    options = {"images": str(tmp_path / "raw.tif"), "labels": str(tmp_path / "labels.tif")}
    data = load_training_data(
        build_config({"data": {**options, "patch_size": 32, "unlabelled_value": 0}}).data
    )
    for part in (data.train, data.validation):
        assert (sum(volume.counts_ZK.sum(0) for volume in part) > 0).all()
    rows = [set(range(*region.rows)) for region in (*data.split.train, *data.split.validation)]
    assert sum(map(len, rows)) == len(set().union(*rows)) == 256
    assert any("train" in note and "validate" in note for note in data.notes)
