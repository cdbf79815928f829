"""What the facts about images and labels mean for a person: the findings, and the classes that were found."""

from __future__ import annotations

from collections.abc import Iterable

from segcore.config import DataConfig
from segcore.data.collection import Collection
from segcore.data.planes import Planes
from segcore.data.report import ClassCount, Finding, Level
from segcore.data.scan import FEW_VALUES, MAX_CLASSES, ImageFacts, LabelFacts
from segcore.data.source import ImageSource
from segcore.data.splits import Split, split_images
from segcore.data.targets import LabelRule, extents_of
from segcore.errors import ConfigError

_OTHER_AXES = {
    3: ("ZYX", "CYX", "YXC", "YXZ"),
    4: ("TZYX", "ZCYX", "CZYX", "ZYXC"),
    5: ("TZCYX", "TCZYX", "CTZYX", "TZYXC"),
}
_AS_FOREGROUND = (
    "If every object has its own number, read labels as foreground, or as objects to learn each by itself "
    "(data.labels_as)."
)


def judge_pair(images: Planes, labels: Planes) -> list[Finding]:
    """Return what is wrong between images and labels as they lie on disk."""
    findings = []
    image_name, label_name = images.source.path.name, labels.source.path.name
    both = f"{image_name}, {label_name}"
    if labels.channels != 1:
        what = f"The labels have {labels.channels} channels ({labels.shape_text})."
        remedy = "Export them with one integer value per pixel, not as a colour picture."
        findings.append(_error(what, label_name, remedy))
    if _grid(images) != _grid(labels):
        what = f"Images and labels differ in shape: images {images.shape_text}; labels {labels.shape_text}."
        findings.append(_error(what, both, _shape_remedy(images, labels)))
    elif len(images.outer) > len(labels.outer) > 0 and _slices_first(images.source.axes):
        what = (
            f"The images are stored as {images.shape_text}, the labels as {labels.shape_text}: label slices "
            "are taken frame by frame, all slices of the first frame first."
        )
        remedy = f"If they lie in the order of the images, export them as {images.label_axes} too."
        findings.append(_finding("warning", what, both, remedy))
    return findings


def judge_axes(given: ImageSource, images: ImageSource, data: DataConfig) -> list[Finding]:
    """Return a warning if images are read otherwise than somebody said, because so they fit their labels."""
    if not data.axes or given.axes == images.axes:
        return []
    what = (
        f"data.axes says {data.axes.upper()}, but the labels have the axes {images.axes} and the same shape: "
        f"the images are read as {images.axes}."
    )
    remedy = f"Leave data.axes out or give {images.axes}; or give one label slice for all channels."
    return [_finding("warning", what, given.path.name, remedy)]


def judge_patch(images: Planes, data: DataConfig) -> list[Finding]:
    """Return whether an image is too small for the patches; it can be read and judged all the same."""
    size, shorter = data.patch_size, min(images.height, images.width)
    if shorter >= size:
        return []
    what = f"The image ({images.height} × {images.width} px) is smaller than a patch ({size} × {size} px)."
    return [_error(what, images.source.path.name, _patch_remedy(shorter))]


def judge_images(collection: Collection, facts: ImageFacts, looked: int) -> list[Finding]:
    """Return what is noteworthy about the pixels of images, of which `looked` planes were read."""
    name = collection.title
    if not facts.any_finite:
        return [_error("The image holds no finite value.", name, "Export it again.")]
    if len(facts.constant) == looked:
        return [_error("The image is constant: there is nothing to see.", name, "Choose another image.")]
    findings = []
    if facts.not_finite:
        what = f"{len(facts.not_finite)} of {looked} slices hold NaN or infinite values; they are replaced."
        remedy = "Export the image without them if they cover more than a few pixels."
        findings.append(_finding("warning", what, _where(collection, facts.not_finite), remedy))
    if facts.constant:
        what = f"{len(facts.constant)} of {looked} slices are constant."
        remedy = "Remove empty slices from images and labels."
        findings.append(_finding("warning", what, _where(collection, facts.constant), remedy))
    if facts.flat_channels:
        what = f"Channel {_numbers(facts.flat_channels)} is constant: it tells the network nothing."
        remedy = "Leave it out, here and in images to be segmented (data.channels)."
        findings.append(_finding("warning", what, name, remedy))
    return findings


def judge_channels(collection: Collection, data: DataConfig) -> list[Finding]:
    """Return an error if there are more or fewer names than channels."""
    named, there = len(data.channel_names), collection.channels
    if not named or named == there:
        return []
    what = f"data.channel_names has {named} names, but the images have {there} channel{'s' * (there > 1)}."
    return [_error(what, collection.title, "Give one name per channel that is used, in their order.")]


def judge_mode(collection: Collection, data: DataConfig) -> list[Finding]:
    """Return a warning if a network is to see several slices of images that have one each."""
    if data.mode == "2d" or any(entry.depth > 1 for entry in collection.entries):
        return []
    what = f"data.mode is {data.mode}, but every image is a single slice: there is nothing around it to see."
    remedy = "Use data.mode 2d, or give the axes if slices were read as something else (data.axes)."
    return [_finding("warning", what, collection.title, remedy)]


def judge_labels(collection: Collection, facts: LabelFacts, data: DataConfig) -> list[Finding]:
    """Return what is noteworthy about the values of labels."""
    name, values = collection.label_title, list(facts.table)
    if facts.fractional:
        dtype = next((each.labels.dtype for each in collection.items if each.labels), "")
        what = f"Labels must be whole numbers, one per class; these are {dtype} with fractions or NaN."
        remedy = "Export them as 8-bit or 16-bit integers, and check that images and labels are not swapped."
        return [_error(what, name, remedy)]
    findings = []
    if not values:
        what = "Nothing is annotated: every pixel counts as unannotated."
        remedy = "Check data.unlabelled_value, data.mask and data.annotated_slices."
        return [_error(what, name, remedy)]
    if facts.floats:
        what = f"The labels are stored as {facts.floats}; their values are whole and read as integers."
        findings.append(_finding("warning", what, name, "Export labels as 8-bit or 16-bit integers."))
    if len(values) > MAX_CLASSES:
        amount = f"more than {len(values)}" if facts.too_many else f"{len(values)}"
        what = f"The labels hold {amount} values; at most {MAX_CLASSES} classes can be learnt."
        return [*findings, _error(what, name, _AS_FOREGROUND)]
    if data.unlabelled_value is not None and not facts.unlabelled:
        where = "the slices that were looked at" if None in facts.per_plane else "the labels"
        what = f"No pixel of {where} has the value {data.unlabelled_value} (data.unlabelled_value)."
        remedy = f"Values that occur are {_numbers(values)}: name the one that says that nobody annotated."
        findings.append(_finding("warning", what, name, remedy))
    if data.class_names and len(data.class_names) != len(values):
        what = (
            f"data.class_names has {len(data.class_names)} names, but the labels hold {len(values)} values: "
            f"{_numbers(values)}."
        )
        findings.append(_error(what, name, "Give one name per label value, in ascending order."))
    if len(values) == 1:
        parts = data.mask or data.annotated_slices or data.unlabelled_value is not None
        pixels = "all annotated pixels" if parts else "all pixels"
        empty = f"empty: {pixels} are 0" if values == [0] else f"all one class: {pixels} are {values[0]}"
        findings.append(_error(f"The labels are {empty}.", name, "Choose labels with at least two values."))
        return findings
    if len(values) > FEW_VALUES:
        what = f"The labels hold {len(values)} values, each read as a class; they look like numbered objects."
        findings.append(_finding("warning", what, name, _AS_FOREGROUND))
    elif values != list(range(len(values))):
        what = (
            f"Label values {_numbers(values)} are read as classes {_numbers(range(len(values)))}; "
            "segmentations are written with the original values."
        )
        findings.append(_finding("info", what, name))
    plain = [index for index, found in enumerate(facts.per_plane) if found is not None and len(found) == 1]
    if plain and data.unlabelled_value is None and not data.mask:
        what = f"{len(plain)} of {len(facts.per_plane)} label slices hold a single value."
        remedy = (
            "They are learnt as they are. If nobody annotated them, name those that are annotated "
            "(data.annotated_slices)."
        )
        findings.append(_finding("info", what, _where(collection, plain, name), remedy))
    return findings


def judge_swap(collection: Collection, image_facts: ImageFacts, label_facts: LabelFacts) -> list[Finding]:
    """Return a warning if images and labels look swapped."""
    if not (image_facts.few_values and label_facts.many_values):
        return []
    what = f"The images hold at most {FEW_VALUES} values and the labels more: they look swapped."
    return [_finding("warning", what, collection.title, "Swap image and labels.")]


def judge_split(collection: Collection, facts: LabelFacts | None, data: DataConfig) -> list[Finding]:
    """Return what is noteworthy about the division into training, validation and test."""
    name, first = collection.title, collection.entries[0]
    if collection.count == 1 and not data.validation_slices and first.height < data.patch_size:
        return []  # said already: smaller than a patch
    per_plane: tuple[frozenset[int], ...] = ()
    if facts and collection.count == len(facts.per_plane) and None not in facts.per_plane:
        per_plane = tuple(found for found in facts.per_plane if found is not None)
    try:
        split = split_images(extents_of(collection, LabelRule.of(data), per_plane), data)
    except ConfigError as error:
        return [_error(error.message, name, error.remedy)]
    findings = [_finding("info", note, name) for note in split.notes]
    if facts and per_plane and collection.count > 1 and len(facts.table) <= FEW_VALUES:
        findings += _missing_classes(collection, split, facts)
    return findings


def count_classes(facts: LabelFacts, data: DataConfig) -> tuple[ClassCount, ...]:
    """Return the classes found, ascending by value; none if the labels cannot be classes."""
    if facts.fractional or len(facts.table) > MAX_CLASSES:
        return ()
    names = [str(value) for value in facts.table]
    if len(data.class_names) == len(names):
        names = data.class_names
    total = sum(facts.table.values())
    return tuple(
        ClassCount(value=value, name=name, pixels=pixels, share=pixels / total)
        for (value, pixels), name in zip(facts.table.items(), names, strict=True)
    )


def _missing_classes(collection: Collection, split: Split, facts: LabelFacts) -> list[Finding]:
    findings = []
    for regions, part, effect in (
        (split.train, "training", "the network cannot learn it"),
        (split.validation, "validation", "how well it is found is not measured"),
    ):
        planes = sorted(
            {collection.position(region.item, plane) for region in regions for plane in range(*region.planes)}
        )
        present: set[int] = set().union(*(facts.per_plane[plane] or () for plane in planes))
        missing = [value for value in facts.table if value not in present]
        if missing:
            what = f"Label value {_numbers(missing)} occurs in no {part} slice: {effect}."
            remedy = "Choose other validation slices (data.validation_slices), or data.split_by stratified."
            findings.append(_finding("warning", what, f"{part} slices {_numbers(planes)}", remedy))
    return findings


def _shape_remedy(images: Planes, labels: Planes) -> str:
    shape = images.source.shape
    for axes in _OTHER_AXES.get(len(shape), ()):
        sizes = dict(zip(axes, shape, strict=True))
        if (sizes.get("T", 1) * sizes.get("Z", 1), sizes["Y"], sizes["X"]) == _grid(labels):
            return f"They fit if the axes of the images are {axes}: if so, give the axes {axes}."
    if (images.count, images.width, images.height) == _grid(labels):
        return "Rows and columns are swapped: transpose the labels."
    if (images.height, images.width) == (labels.height, labels.width):
        return f"There must be one label slice per image slice: {images.count}, not {labels.count}."
    return "Choose the labels that were drawn on these images."


def _patch_remedy(shorter: int) -> str:
    if shorter <= 4:
        return "If its last axis holds channels, give the axes with C last, for example YXC."
    fits = shorter // 16 * 16
    return (
        f"Use a patch size of at most {fits}."
        if fits >= 32
        else "It is too small: at least 32 px are needed."
    )


def _slices_first(axes: str) -> bool:
    return axes.index("Z") < axes.index("T")


def _grid(planes: Planes) -> tuple[int, int, int]:
    return planes.count, planes.height, planes.width


def _finding(level: Level, what: str, where: str, remedy: str = "") -> Finding:
    return Finding(level=level, what=what, where=where, remedy=remedy)


def _error(what: str, where: str, remedy: str) -> Finding:
    return _finding("error", what, where, remedy)


def _where(collection: Collection, indices: list[int], name: str = "") -> str:
    if len(collection.entries) == 1:
        return f"{name or collection.title}, slices {_numbers(indices)}"
    return ", ".join(collection.name(index) for index in indices[:5]) + (", …" if len(indices) > 5 else "")


def _numbers(values: Iterable[int]) -> str:
    listed = [str(value) for value in values]
    return ", ".join(listed[:10]) + (", …" if len(listed) > 10 else "")
