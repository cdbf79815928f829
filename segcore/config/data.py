"""Options of the data: files, labels, channels, dimensions, patches, split, normalisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import field_validator, model_validator

from segcore.config.option import (
    AXES_PATTERN,
    PIXEL_SIZE_PATTERN,
    SLICES_PATTERN,
    Section,
    option,
)
from segcore.config.sets import TrainingSet, check_sets, choose_main

Mode = Literal["2d", "2.5d", "3d"]
ADDRESSES = ("images", "labels", "mask")
"""Options that name files."""


class DataConfig(Section):
    """The images, their labels and how patches are cut from them."""

    images: str | None = option(
        None,
        "Images: a file, a folder of files, an address of a Zarr, or several files of one channel each, "
        "separated by semicolons.",
        label="Raw images",
        form="hidden",
    )
    labels: str | None = option(
        None,
        "Labels drawn on the images: one whole number per class, colours, COCO JSON, ImageJ ROIs or GeoJSON.",
        label="Annotations",
        form="hidden",
    )
    mask: str | None = option(
        None,
        "Mask or ROI file that is above 0 where somebody annotated; all other pixels are left out of "
        "training, loss and scores.",
        label="Annotated part",
        form="hidden",
    )
    sets: list[TrainingSet] = option(
        [],
        'More sets of images with their labels, as JSON: [{"images": …, "labels": …, "use": "validation"}]. '
        "Without data.images, one of them takes its place.",
        label="More sets",
        form="hidden",
    )
    label_suffix: str | None = option(
        None,
        "What the name of a label file has behind (or before) the name of its image, for example _mask; by "
        "default the usual ones are tried.",
        label="Ending of label files",
        form="more",
    )
    axes: str | None = option(
        None,
        "Axes of the image file, for example ZYX or CZYX, where its metadata is missing or wrong.",
        label="Axes",
        form="more",
        pattern=AXES_PATTERN,
    )
    pixel_size: str | None = option(
        None,
        "Size of a voxel where the file is silent or wrong: one number for rows and columns, or three for z, "
        "y, x.",
        label="Pixel size",
        unit="µm",
        form="more",
        pattern=PIXEL_SIZE_PATTERN,
    )
    channels: str | None = option(
        None,
        "Channels to use, counted from 0, for example 0,2; by default all.",
        label="Channels",
        form="more",
        pattern=SLICES_PATTERN,
    )
    channel_names: list[str] = option(
        [],
        "Names of the channels that are used, in their order.",
        label="Channel names",
        form="more",
    )
    channel_suffixes: list[str] = option(
        [],
        "Endings that tell the channels of one image apart in a folder of files of one channel each, for "
        "example _DAPI, _GFP.",
        label="Endings of channel files",
        form="more",
    )
    labels_as: Literal["classes", "foreground", "objects"] = option(
        "classes",
        "classes: every label value is a class. foreground: all values above 0 become one class. objects: "
        "every value above 0 is an object of one class (model.head learns to tell them apart).",
        label="Read labels as",
        form="more",
    )
    coco_as: Literal["semantic", "instance", "panoptic"] = option(
        "semantic",
        "What the objects of a COCO JSON become: the number of their category, a number of their own, or "
        "both: category × 1000 + number.",
        label="Read COCO objects as",
        form="more",
    )
    unlabelled_value: int | None = option(
        None,
        "Label value that says: nobody annotated this pixel. It is left out of training, loss and scores.",
        label="Value of unannotated pixels",
        form="more",
    )
    annotated_slices: str | None = option(
        None,
        "Slices somebody annotated, counted from 0, where not all were: 2,5,21. The others are left out of "
        " training and scores.",
        label="Annotated slices",
        form="more",
        pattern=SLICES_PATTERN,
    )
    class_names: list[str] = option(
        [],
        "Names of the classes, in ascending order of their label values.",
        label="Class names",
        form="more",
    )
    recipe: list[str] = option(
        [],
        "Repairs that are made on reading, one after the other, as the data doctor proposes them; the files "
        "stay as they are.",
        label="Repairs",
        form="hidden",
    )
    mode: Mode = option(
        "2d",
        "2d: every slice alone. 2.5d: a slice with its neighbours. 3d: blocks of slices.",
        label="Dimensions",
        form="more",
    )
    context_slices: int = option(
        3,
        "Slices the network sees to decide on the middle one (2.5d).",
        label="Slices seen together",
        form="more",
        ge=3,
        le=31,
    )
    context_spacing: int = option(
        1,
        "Distance of these slices (2.5d): 2 takes every second one.",
        label="Distance of these slices",
        form="more",
        ge=1,
        le=32,
    )
    patch_size: int = option(
        64,
        "Side of the square patches the network trains on.",
        label="Patch size",
        unit="px",
        form=[32, 48, 64, 96, 128, 256],
        ge=32,
        le=4096,
        multiple_of=16,
    )
    patch_depth: int = option(
        16,
        "Slices of a patch (3d).",
        label="Patch depth",
        unit="slices",
        form="more",
        ge=4,
        le=512,
        multiple_of=4,
    )
    patches_per_image: int = option(
        50,
        "Patches cut from every slice in each epoch; in 3d, from every block of slices as deep as a patch.",
        label="Patches per image",
        form={"min": 1, "max": 100, "step": 1},
        ge=1,
        le=100,
    )
    foreground_patches: float = option(
        0.0,
        "Share of the patches that are centred on a pixel of a class other than the most frequent one.",
        label="Patches on rare classes",
        form="more",
        ge=0,
        le=1,
    )
    loading: Literal["auto", "memory", "disk"] = option(
        "auto",
        "memory: all images are read before the training begins. disk: each patch is read when it is needed. "
        "auto: disk where memory is too small.",
        label="Loading",
        form="more",
    )
    augmentation: bool = option(
        True,
        "Vary every patch at random: flips, quarter turns, rotation, scale, elastic deformation, brightness, "
        "contrast, gamma, blur and noise.",
        label="Augmentation",
    )
    split_by: Literal["even", "random", "stratified", "blocks", "groups"] = option(
        "even",
        "How slices are divided: evenly over the stack, at random, at random with all classes in every "
        "part, in contiguous blocks, or by groups (data.group_pattern).",
        label="Split",
        form="more",
    )
    validation_fraction: float = option(
        0.2,
        "Share of the slices kept for validation.",
        label="Validation fraction",
        form={"min": 0.05, "max": 0.5, "step": 0.05},
        ge=0.01,
        le=0.9,
    )
    test_fraction: float = option(
        0.0,
        "Share of the slices kept apart for the test: neither training nor validation sees them, only a "
        "comparison with annotations (step 4, segcore evaluate) does.",
        label="Test fraction",
        form="more",
        ge=0,
        le=0.9,
    )
    validation_slices: str | None = option(
        None,
        "Slices kept for validation instead of a fraction, counted from 0: 24-29 or 0,5,10-12.",
        label="Validation slices",
        form="more",
        pattern=SLICES_PATTERN,
    )
    test_slices: str | None = option(
        None,
        "Slices kept apart for the test, counted from 0.",
        label="Test slices",
        form="more",
        pattern=SLICES_PATTERN,
    )
    group_pattern: str | None = option(
        None,
        "Regular expression on the path of an image; what its brackets catch (or all of it) is the group: "
        "patient, position, volume. A group is never divided.",
        label="Group pattern",
        form="more",
    )
    validation_groups: list[str] = option(
        [],
        "Groups or files kept for validation; * stands for any letters.",
        label="Validation groups",
        form="more",
    )
    test_groups: list[str] = option(
        [],
        "Groups or files kept apart for the test; * stands for any letters, as in Pos*09.",
        label="Test groups",
        form="more",
    )
    folds: int = option(
        0,
        "Number of parts for cross-validation, 0 for none; data.fold says which of them validates.",
        label="Folds",
        form="more",
        ge=0,
        le=100,
    )
    fold: int = option(
        0,
        "The part that validates, counted from 0.",
        label="Fold",
        form="more",
        ge=0,
        le=99,
    )
    normalization: Literal["percentile", "z-score", "min-max", "none"] = option(
        "percentile",
        "How grey values become network input; the statistics come from the whole training set and travel "
        "with the model. percentile: the 0.5th and 99.5th percentile become -1 and 1.",
        label="Normalisation",
        form="more",
    )
    normalize_per: Literal["set", "image"] = option(
        "set",
        "set: one map for all images, taken from the training images. image: every image gets its own, "
        "for exposures that vary.",
        label="Statistics from",
        form="more",
    )

    def with_addresses(self, change: Callable[[str], str]) -> DataConfig:
        """Return the same options with every path or address changed."""

        def changed(text: str | None) -> str | None:
            return ";".join(change(part.strip()) for part in text.split(";")) if text else text

        sets = [
            one.model_copy(update={name: changed(getattr(one, name)) for name in ADDRESSES})
            for one in self.sets
        ]
        return self.model_copy(
            update={name: changed(getattr(self, name)) for name in ADDRESSES} | {"sets": sets}
        )

    def with_main_set(self) -> DataConfig:
        """Return the same options with images and labels, which one of the sets gives if nothing else does.

        Raises
        ------
        ConfigError
            None of the sets can be divided, and there is none for validation.
        """
        if self.images or self.labels or not self.sets:
            return self
        main = choose_main(self.sets, bool(self.folds or self.test_fraction))
        sets = [one for one in self.sets if one is not main]
        return self.model_copy(update={name: getattr(main, name) for name in ADDRESSES} | {"sets": sets})

    @field_validator("sets", mode="before")
    @classmethod
    def _sets_fit(cls, value: Any) -> Any:
        return check_sets(value)

    @model_validator(mode="after")
    def _counts_fit(self) -> DataConfig:
        if self.context_slices % 2 == 0:
            raise ValueError(
                f"data.context_slices is {self.context_slices}: it must be odd, so that there is a middle. "
                f"Use {self.context_slices + 1}."
            )
        if self.folds == 1 or (self.folds and self.fold >= self.folds):
            raise ValueError(
                f"data.fold is {self.fold} of data.folds {self.folds}: folds are counted from 0, and there "
                "are at least two. Use a smaller data.fold or more data.folds."
            )
        return self
