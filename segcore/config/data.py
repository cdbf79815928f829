"""Options of the data: files, classes, patches, split, normalisation."""

from __future__ import annotations

from typing import Literal

from segcore.config.option import AXES_PATTERN, SLICES_PATTERN, Section, option


class DataConfig(Section):
    """The images, their labels and how patches are cut from them."""

    images: str | None = option(
        None,
        "Image stack: TIFF, NumPy, HDF5, Zarr, OME-Zarr, NIfTI, PNG, JPEG or BMP; file.h5::name where a file "
        "holds several arrays.",
        label="Raw images",
        form="hidden",
    )
    labels: str | None = option(
        None,
        "Label stack, in the same formats: one integer value per class, same shape as the images.",
        label="Annotations",
        form="hidden",
    )
    axes: str | None = option(
        None,
        "Axes of the image file, for example ZYX or CZYX, where its metadata is missing or wrong.",
        label="Axes",
        form="more",
        pattern=AXES_PATTERN,
    )
    labels_as: Literal["classes", "foreground"] = option(
        "classes",
        "classes: every label value is a class. foreground: all values above 0 become one class (for masks "
        "in which every object has its own number).",
        label="Read labels as",
        form="more",
    )
    class_names: list[str] = option(
        [],
        "Names of the classes, in ascending order of their label values.",
        label="Class names",
        form="more",
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
    patches_per_image: int = option(
        50,
        "Patches cut from every slice in each epoch.",
        label="Patches per image",
        form={"min": 1, "max": 100, "step": 1},
        ge=1,
        le=100,
    )
    augmentation: bool = option(
        True,
        "Vary every patch at random: flips, quarter turns, rotation, scale, elastic deformation, brightness, "
        "contrast, gamma, blur and noise.",
        label="Augmentation",
    )
    validation_fraction: float = option(
        0.2,
        "Share of the slices kept for validation, evenly spread over the stack.",
        label="Validation fraction",
        form={"min": 0.05, "max": 0.5, "step": 0.05},
        ge=0.01,
        le=0.9,
    )
    validation_slices: str | None = option(
        None,
        "Slices kept for validation instead of a fraction, counted from 0: 24-29 or 0,5,10-12.",
        label="Validation slices",
        form="more",
        pattern=SLICES_PATTERN,
    )
    normalization: Literal["percentile", "z-score", "min-max", "none"] = option(
        "percentile",
        "How grey values become network input; the statistics come from the whole training set and travel "
        "with the model. percentile: the 0.5th and 99.5th percentile become -1 and 1.",
        label="Normalisation",
        form="more",
    )
