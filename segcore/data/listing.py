"""Listing one set: the files that its addresses mean, paired; what has no partner is named in findings."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath

from segcore.addresses import is_url, join_address, split_address
from segcore.config import DataConfig
from segcore.data.found import LABEL_SUFFIXES, Found, about, natural
from segcore.data.items import Item, Listing, Use
from segcore.data.pairing import Candidate, Pairs, pair, tell_apart, without_channel
from segcore.data.report import Finding
from segcore.data.sides import (
    Side,
    channel_remedy,
    find_side,
    guess_channels,
    join_channels,
    likely_channels,
)
from segcore.errors import DataError

JSON = ".json"
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Places:
    """Where the files of a set are, "" where nothing is named."""

    images: str
    labels: str
    mask: str
    use: Use


def list_set(
    places: Places, data: DataConfig, labelled: bool = True, progress: Progress | None = None
) -> Listing:
    """Return the images of one set with their labels, and what was noticed.

    Parameters
    ----------
    places : Places
        Where the files are.
    data : DataConfig
        Suffixes of labels and of channels.
    labelled : bool
        Whether labels are looked for.
    progress : callable, optional
        Called now and then with the number of files found in a folder.
    """
    if not places.images:
        return Listing((), (_no_images(""),))
    images = find_side(places.images, progress)
    together = not images.single and (not places.labels or _same(places.images, places.labels))
    if together:
        labels = Side(where=images.where)
        _tell_apart(images, labels, data)
        if not labelled:
            _return_lone(images, labels, data.label_suffix)
    else:
        labels = find_side(places.labels, progress) if labelled and places.labels else Side()
        _keep_apart(images, places.labels, places.images)
        _keep_apart(labels, places.images, places.labels)
        images.candidates = [c for c in images.candidates if images.single or _can_be_image(c)]
    _keep_apart(images, places.mask, places.images)
    findings = images.findings + labels.findings
    suffixes = data.channel_suffixes or guess_channels(images, labels)
    findings += join_channels(images, suffixes)
    labels.candidates = without_channel(labels.candidates, suffixes)
    if not images.candidates and not any(finding.level == "error" for finding in findings):
        findings.append(_no_images(places.images))
    if not labelled:
        findings += [] if suffixes else _look_like_channels(images)
        return Listing(_items(images, {}, {}, places.use), tuple(findings))
    if not places.labels and images.single:
        findings.append(_no_labels(images))
        return Listing((), tuple(findings))
    if places.mask and not images.single and _same(places.images, places.mask):
        findings.append(_masks_among_images(places.mask))
        return Listing((), tuple(findings))
    paired, problems = _pair_labels(images, labels, data)
    masks, mask_problems = _pair_masks(images, places.mask, progress)
    items = _items(images, paired, masks, places.use, only_labelled=True)
    return Listing(items, tuple(findings + problems + mask_problems))


# --- images or labels --------------------------------------------------------------------------------------


def _same(images: str, labels: str) -> bool:
    return images == labels or (
        not is_url(images) and not is_url(labels) and os.path.realpath(images) == os.path.realpath(labels)
    )


def _can_be_image(candidate: Candidate) -> bool:
    return candidate.files[0].suffix not in LABEL_SUFFIXES


def _tell_apart(images: Side, labels: Side, data: DataConfig) -> None:
    """Take the label files out of the images; with channel suffixes, also those that have none of these."""
    by_file = {candidate.files[0]: candidate for candidate in images.candidates}
    mine, theirs = tell_apart(list(by_file), data.label_suffix)
    if data.channel_suffixes:
        theirs += [file for file in mine if not file.stem.endswith(tuple(data.channel_suffixes))]
        mine = [file for file in mine if file.stem.endswith(tuple(data.channel_suffixes))]
    images.candidates = [by_file[file] for file in mine]
    labels.candidates = [by_file[file] for file in theirs]


def _return_lone(images: Side, labels: Side, suffix: str | None) -> None:
    """Take for images what is only called like labels, but belongs to no image; name the rest."""
    pairs = pair(images.candidates, labels.candidates, suffix)
    lone = [labels.candidates[number] for number in pairs.lone_labels]
    images.candidates = sorted(
        images.candidates + [candidate for candidate in lone if _can_be_image(candidate)],
        key=lambda candidate: natural(candidate.files[0].name),
    )
    alone = set(pairs.lone_labels)
    names = [c.files[0].name for number, c in enumerate(labels.candidates) if number not in alone]
    what = "Files whose names say that they are labels are left out"
    images.findings += about("info", names, what, images.where, "")


def _keep_apart(side: Side, other: str, own: str) -> None:
    """Leave out what lies in the other folder, where that is within this one."""
    if side.single or not other or is_url(other) or not Path(other).is_dir():
        return
    inner, outer = os.path.realpath(other), os.path.realpath(own)
    if inner != outer and inner.startswith(outer + os.sep):
        below = os.path.relpath(inner, outer).replace(os.sep, "/") + "/"
        side.candidates = [c for c in side.candidates if not c.files[0].name.startswith(below)]


# --- pairs -------------------------------------------------------------------------------------------------


def _pair_labels(images: Side, labels: Side, data: DataConfig) -> tuple[dict[int, str], list[Finding]]:
    """Return the address of the labels of every image that has some."""
    if images.single and labels.single:
        return {0: _of_coco(images.candidates[0], labels.candidates[0].files[0].address)}, []
    annotations = _coco_file(images, labels)
    if annotations:
        try:
            labels = Side(_coco_candidates(annotations), where=Path(annotations).name)
        except DataError as error:
            finding = Finding(level="error", what=error.message, where=annotations, remedy=error.remedy)
            return {}, [finding]
        images.candidates = [
            Candidate(c.files, c.stem, (PurePath(c.files[0].name).name,)) for c in images.candidates
        ]
    elif labels.single and len(images.candidates) != 1:
        return {}, [_one_for_many(images, labels.candidates[0].files[0])]
    suffix = None if annotations else data.label_suffix
    pairs = pair(images.candidates, labels.candidates, suffix)
    if labels.single:
        pairs = Pairs({0: 0})
    found = {
        image: labels.candidates[number].files[0].address for image, number in sorted(pairs.labels.items())
    }
    return found, _unpaired(images, labels, pairs, data)


def _one_for_many(images: Side, file: Found) -> Finding:
    what = f"There are {len(images.candidates)} images in {images.where}, but one label file, {file.name}."
    remedy = "Choose the folder of the label files, or a COCO JSON."
    if not is_url(file.address) and not Path(split_address(file.address)[0]).exists():
        what, remedy = f"{file.address} does not exist.", "Check the name, or upload the file."
    return Finding(level="error", what=what, where=file.name, remedy=remedy)


def _unpaired(images: Side, labels: Side, pairs: Pairs, data: DataConfig) -> list[Finding]:
    lone_images = [images.candidates[number].name for number in pairs.lone_images]
    rest = [labels.candidates[number].files[0] for number in pairs.lone_labels]
    lone_labels = [file.name for file in rest if file.suffix != JSON]
    if images.single:
        lone_labels = []
    doubles = [
        " + ".join([images.candidates[number].name for number in mine])
        + " ↔ "
        + " + ".join(labels.candidates[number].files[0].name for number in theirs)
        for mine, theirs in pairs.doubles
    ]
    suffix = f" (data.label_suffix {data.label_suffix!r})" if data.label_suffix else ""
    remedy = "Name every label file like its image, or name what differs in data.label_suffix."
    channels = likely_channels(images) if lone_images and not data.channel_suffixes else []
    remedy = f"{channel_remedy(channels)} Otherwise n{remedy[1:]}" if channels else remedy
    level = "warning" if pairs.labels else "error"
    findings = [
        *about("warning", lone_images, f"Images without labels{suffix} are left out", images.where, remedy),
        *about("warning", lone_labels, f"Labels without an image{suffix} are left out", labels.where, remedy),
        *about("warning", doubles, "Files that could belong to several others are left out", images.where,
               "Rename or move them, so that every image has one label file."),
    ]  # fmt: skip
    if pairs.guessed:
        image, file = images.candidates[0].name, labels.candidates[0].files[0].name
        what = f"{file} is taken for the labels of {image}: there are no other files."
        findings.append(Finding(level="info", what=what, where=images.where))
    if level == "error" and images.candidates:
        what = f"No image of {images.where} has labels."
        remedy = remedy if channels else f"Choose the label file or folder itself. {remedy}"
        if lone_images and not rest and not doubles:
            what += " No label files were found."
        findings.append(Finding(level="error", what=what, where=labels.where or images.where, remedy=remedy))
    return findings


def _pair_masks(
    images: Side, address: str, progress: Progress | None
) -> tuple[dict[int, str], list[Finding]]:
    if not address:
        return {}, []
    masks = find_side(address, progress)
    if masks.single and len(images.candidates) == 1:
        return {0: masks.candidates[0].files[0].address}, []
    if masks.single:
        what = f"data.mask is one file, {masks.where}, but there are {len(images.candidates)} images."
        remedy = "Choose a folder with one mask per image."
        return {}, [Finding(level="error", what=what, where=masks.where, remedy=remedy)]
    pairs = pair(images.candidates, masks.candidates)
    found = {image: masks.candidates[number].files[0].address for image, number in pairs.labels.items()}
    bare = [c.name for number, c in enumerate(images.candidates) if number not in found]
    lone = [masks.candidates[number].files[0].name for number in pairs.lone_labels]
    lone += [masks.candidates[number].files[0].name for _, theirs in pairs.doubles for number in theirs]
    what = "Images without a mask count as annotated throughout"
    findings = about("warning", bare, what, masks.where, "Name every mask like its image.")
    findings += masks.findings
    findings += about("warning", lone, "Masks of no image, or of several, are left out", masks.where, "")
    return found, findings


# --- COCO --------------------------------------------------------------------------------------------------


def _coco_file(images: Side, labels: Side) -> str:
    """Return the JSON file that describes all images, "" if the labels are something else."""
    files = [candidate.files[0] for candidate in labels.candidates]
    if len(files) != 1 or files[0].suffix != JSON:
        return ""
    alone = len(images.candidates) == 1 and images.candidates[0].stem == files[0].stem
    return "" if alone else files[0].address


def _coco_candidates(address: str) -> list[Candidate]:
    from segcore.data.coco import coco_images

    path, _ = split_address(address)
    found = []
    for image in coco_images(Path(path)):
        file = Found(image.file_name.replace("\\", "/"), join_address(path, image.file_name))
        found.append(Candidate((file,), file.stem, (PurePath(file.name).name,)))
    return found


def _of_coco(image: Candidate, address: str) -> str:
    """Return the address of the annotations of one image, where `address` is a COCO file of several."""
    if not address.lower().endswith(JSON):
        return address
    try:
        candidates = _coco_candidates(address)
    except DataError:
        return address  # whatever it is, opening it says what is wrong
    named = Candidate(image.files, image.stem, (PurePath(image.files[0].name).name,))
    number = pair([named], candidates).labels.get(0)
    return address if number is None else candidates[number].files[0].address


# --- results -----------------------------------------------------------------------------------------------


def _items(
    images: Side, labels: dict[int, str], masks: dict[int, str], use: Use, only_labelled: bool = False
) -> tuple[Item, ...]:
    return tuple(
        Item(
            candidate.name,
            tuple(file.address for file in candidate.files),
            labels.get(number, ""),
            masks.get(number, ""),
            use,
        )
        for number, candidate in enumerate(images.candidates)
        if number in labels or not only_labelled
    )


def _look_like_channels(images: Side) -> list[Finding]:
    endings = likely_channels(images, certain=True)
    if not endings:
        return []
    what = f"Files that end in {', '.join(endings)} are read as an image each."
    return [Finding(level="info", what=what, where=images.where, remedy=channel_remedy(endings))]


def _no_images(address: str) -> Finding:
    return Finding(
        level="error",
        what=f"There are no images in {address!r}.",
        where=address,
        remedy="Choose an image file, or a folder with TIFF, PNG, JPEG, Zarr or other image files.",
    )


def _masks_among_images(address: str) -> Finding:
    return Finding(
        level="error",
        what="data.mask is the folder of the images, so nobody can tell masks and images apart.",
        where=address,
        remedy="Put the masks into a folder of their own.",
    )


def _no_labels(images: Side) -> Finding:
    return Finding(
        level="error",
        what=f"No labels are named for {images.where}.",
        where=images.where,
        remedy="Choose the labels that were drawn on it.",
    )
