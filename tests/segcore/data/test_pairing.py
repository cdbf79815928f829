"""Pairing: every file is paired once or named, an equal name goes first; names sort as people sort them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segcore.data.found import Found, natural
from segcore.data.pairing import Candidate, looks_like_label, pair


@pytest.mark.parametrize(
    "name", ["masked.tif", "segment.tif", "labyrinth.tif", "unlabelled_1.tif", "gtx.tif"]
)
def test_words_within_words_say_nothing(name: str) -> None:
    assert not looks_like_label(Found(name, name))


NAMES = st.from_regex(r"[a-c]{0,2}(_mask|_raw|mask_|_label)?[0-2]{0,2}\.(tif|png)", fullmatch=True).filter(
    lambda name: not name.startswith(".")
)


@settings(max_examples=300, deadline=None)
@given(st.sets(NAMES, max_size=8), st.sets(NAMES, max_size=8), st.sampled_from([None, "_mask"]))
def test_every_file_is_paired_once_or_named(images: set[str], labels: set[str], suffix: str | None) -> None:
    mine, theirs = (
        [Candidate((Found(name, name),), Found(name, name).stem) for name in sorted(names)]
        for names in (images, labels)
    )
    found = pair(mine, theirs, suffix)
    seen = [*found.labels, *found.lone_images, *(n for numbers, _ in found.doubles for n in numbers)]
    assert sorted(seen) == list(range(len(mine)))
    seen = [*found.labels.values(), *found.lone_labels, *(n for _, numbers in found.doubles for n in numbers)]
    assert sorted(seen) == list(range(len(theirs)))
    for image, label in found.labels.items():
        twins = [c for c in mine if c.stem == mine[image].stem]
        assert len(twins) == 1 or found.guessed
        if not suffix and any(
            c.stem == mine[image].stem for c in theirs
        ):  # an equal name goes before all others
            assert theirs[label].stem == mine[image].stem


FOLDERS = st.sets(st.sampled_from(["Pos001/0.tif", "Pos002/0.tif", "Pos003/0.tif", "Pos004/0.tif"]))


@given(FOLDERS, FOLDERS, st.sampled_from(["", "e_raw_data/"]))
def test_what_lies_in_different_positions_is_no_pair(images: set[str], labels: set[str], above: str) -> None:
    mine = [Candidate((Found(above + name, name),), "0") for name in sorted(images)]
    theirs = [Candidate((Found(above.replace("raw_data", "masks") + name, name),), "0") for name in labels]
    found = pair(mine, theirs)
    pairs = {
        (mine[image].files[0].address, theirs[label].files[0].address)
        for image, label in found.labels.items()
    }
    assert found.guessed or pairs == {(name, name) for name in images & labels}


def test_folders_on_one_side_alone_do_not_matter() -> None:
    mine = [Candidate((Found(f"{folder}/{folder}.tif", ""),), folder) for folder in "abc"]
    theirs = [Candidate((Found(f"{folder}_mask.tif", ""),), f"{folder}_mask") for folder in "abc"]
    assert pair(mine, theirs).labels == pair(theirs, mine).labels == {0: 0, 1: 1, 2: 2}


@given(st.lists(st.text(alphabet="ab1290", min_size=1, max_size=6), max_size=8))
def test_natural_order_is_the_order_of_the_numbers(names: list[str]) -> None:
    assert sorted(names, key=natural) == sorted(sorted(names), key=natural)
    numbers = [name for name in names if name.isdecimal()]
    assert [int(name) for name in sorted(numbers, key=natural)] == sorted(map(int, numbers))


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a/x.nii.gz", "x"),
        ("x.ome.tif", "x"),
        ("x.1.tif", "x.1"),
        ("patient.1", "patient.1"),
        ("v.h5::raw/0", "v"),
        ("X.TIFF", "X"),
    ],
)
def test_the_stem_is_the_name_without_a_known_ending(name: str, stem: str) -> None:
    assert Found(name, name).stem == stem
