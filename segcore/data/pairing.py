"""Pairing: which label file belongs to which image, by their names and folders; every other file is named."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from segcore.data.found import LABEL_SUFFIXES, Found

_LABEL_WORDS = (
    "cp_masks?|simple segmentation|roi_?sets?|rois?|masks?|labels?|labelled|labeled|seg|segmentations?|"
    "segmented|gt|ground[_ -]?truth|annotations?|annotated|truth|targets?|classes"
)
_IMAGE_WORDS = "raw[_ -]?data|raw|images?|imgs?|img|inputs?|orig(?:inal)?|data|scans?"
_GAP = r"[_\-. ]"
_LOSSY = (".jpg", ".jpeg")
"""An annotation is never stored like this, so of two files of one name this one is the image."""
Key = tuple[str, ...]


def _affix(words: str) -> re.Pattern[str]:
    """Return what finds words that stand alone, or at an end of a name, or before its number."""
    return re.compile(
        rf"^(?:{words})$|{_GAP}(?:{words})$|^(?:{words})(?:{_GAP}|(?=\d|Tr$|Ts$))", re.IGNORECASE
    )


_LABEL_END = re.compile(rf"{_GAP}(?:{_LABEL_WORDS})$", re.IGNORECASE)
_LABEL = _affix(_LABEL_WORDS + "|man_seg|man_track")
_IMAGE = _affix(_IMAGE_WORDS)
_FRAME = re.compile(r"^t(?=\d+$)")
_EITHER = _affix(f"{_LABEL_WORDS}|{_IMAGE_WORDS}")


@dataclass(frozen=True)
class Candidate:
    """An image or label file, or the channel files of one image, to be paired.

    Parameters
    ----------
    files : tuple of Found
        One, or one per channel.
    stem : str
        What their names have in common.
    mark : tuple of str, optional
        What is compared before any name: what the stars of the pattern stand for that found the file.
    """

    files: tuple[Found, ...]
    stem: str
    mark: tuple[str, ...] | None = None

    @property
    def name(self) -> str:
        """Path below what was searched; of channel files, that of what they have in common."""
        first = self.files[0]
        if len(self.files) == 1:
            return first.name
        return "/".join((*first.folder, self.stem))


@dataclass
class Pairs:
    """What belongs together, and what does not.

    Parameters
    ----------
    labels : dict
        From the number of an image to the number of its label file.
    lone_images, lone_labels : list of int
        Without a partner.
    doubles : list of tuple
        Numbers of images, and of labels, of which several could belong together.
    guessed : bool
        The only image was given the only label file, although their names differ.
    """

    labels: dict[int, int] = field(default_factory=dict)
    lone_images: list[int] = field(default_factory=list)
    lone_labels: list[int] = field(default_factory=list)
    doubles: list[tuple[list[int], list[int]]] = field(default_factory=list)
    guessed: bool = False


def pair(images: Sequence[Candidate], labels: Sequence[Candidate], suffix: str | None = None) -> Pairs:
    """Pair images with label files: first by equal names, then without the words that say what a file is.

    Parameters
    ----------
    images, labels : sequence of Candidate
        In any order; no file is in both.
    suffix : str, optional
        What the name of a label file has behind or before that of its image; by default usual words.
    """
    pairs = Pairs()
    left_images, left_labels = dict(enumerate(images)), dict(enumerate(labels))
    rules: list[tuple[Callable[[Candidate], Key | None], Callable[[Candidate], Key | None]]]
    rules = [(_mark, _mark)]
    if suffix:
        rules += [(_exact, lambda c: _without(c, suffix)), (_plain, lambda c: _plain_key(c, suffix))]
    else:
        rules += [
            (_exact, _exact),
            (_exact, _without_end),
            (_exact, _unlabelled),
            (_plain, _plain),
        ]
    if not suffix and (_flat(images) or _flat(labels)):
        rules.append((_stem_only, _stem_only))
    for of_image, of_label in rules:
        _pair_by(left_images, left_labels, of_image, of_label, pairs)
    if len(left_images) == len(left_labels) == len(images) == len(labels) == 1 and not suffix:
        pairs.labels[0] = 0
        pairs.guessed = True
        return pairs
    pairs.lone_images = list(left_images)
    pairs.lone_labels = list(left_labels)
    return pairs


def looks_like_label(file: Found, suffix: str | None = None) -> bool:
    """Say whether the name of a file, or of a folder on the way to it, says that it holds labels.

    Examples
    --------
    >>> [looks_like_label(Found(name, "")) for name in ("x_mask.png", "a_masks/x.png", "masked.png")]
    [True, True, False]
    """
    if suffix:
        return _strip_given(file, suffix) is not None
    return bool(_LABEL.search(file.stem)) or any(_LABEL.search(part) for part in file.folder)


def tell_apart(files: Sequence[Found], suffix: str | None = None) -> tuple[list[Found], list[Found]]:
    """Return the images and the label files among files of one folder.

    Names decide: roi_1 is an image where there is a roi_1_mask. Of two files of the same name, a JPEG is the
    image and a JSON or ROI file the labels; of several other endings a PNG holds the labels.
    """
    labels = {file for file in files if file.suffix in LABEL_SUFFIXES or looks_like_label(file, suffix)}
    if not suffix:
        drawn = {
            (*file.folder, _LABEL_END.sub("", file.stem)) for file in labels if _LABEL_END.search(file.stem)
        }
        labels -= {file for file in labels if (*file.folder, file.stem) in drawn and _can_be_image(file)}
        same: dict[Key, list[Found]] = defaultdict(list)
        for file in files:
            if file not in labels:
                same[(*file.folder, file.stem)].append(file)
        named = {(*_plain_folder(file.folder), _plain_stem(file.stem)) for file in labels}
        for key, twins in same.items():
            if len(twins) == 2 and (*_plain_folder(key[:-1]), _plain_stem(key[-1])) not in named:
                twins.sort(key=lambda file: (file.suffix not in _LOSSY, file.suffix == ".png"))
                if twins[0].suffix in _LOSSY or twins[1].suffix == ".png":
                    labels.add(twins[1])
    return [file for file in files if file not in labels], [file for file in files if file in labels]


def without_channel(labels: Sequence[Candidate], suffixes: Sequence[str]) -> list[Candidate]:
    """Return label files under the name of their image where they are named like one of its channels."""
    found = []
    for candidate in labels:
        stem = _LABEL_END.sub("", candidate.stem)
        suffix = next((suffix for suffix in suffixes if stem.endswith(suffix)), None)
        found.append(replace(candidate, stem=stem[: -len(suffix)]) if suffix else candidate)
    return found


def _pair_by(
    images: dict[int, Candidate],
    labels: dict[int, Candidate],
    of_image: Callable[[Candidate], Key | None],
    of_label: Callable[[Candidate], Key | None],
    pairs: Pairs,
) -> None:
    """Pair what has equal keys, and take it, and what could belong to several, out of what is left."""
    mine, theirs = _by_key(images, of_image), _by_key(labels, of_label)
    for key, numbers in mine.items():
        partners = theirs.get(key, [])
        if not partners:
            continue
        if len(numbers) == len(partners) == 1:
            pairs.labels[numbers[0]] = partners[0]
        else:
            pairs.doubles.append((numbers, partners))
        for number in numbers:
            del images[number]
        for number in partners:
            del labels[number]


def _by_key(
    candidates: dict[int, Candidate], key_of: Callable[[Candidate], Key | None]
) -> dict[Key, list[int]]:
    found: dict[Key, list[int]] = defaultdict(list)
    for number, candidate in candidates.items():
        key = key_of(candidate)
        if key is not None:
            found[key].append(number)
    return found


def _can_be_image(file: Found) -> bool:
    return file.suffix not in LABEL_SUFFIXES


def _mark(candidate: Candidate) -> Key | None:
    return candidate.mark


def _exact(candidate: Candidate) -> Key:
    return (*candidate.files[0].folder, candidate.stem)


def _without_end(candidate: Candidate) -> Key:
    return (*candidate.files[0].folder, _LABEL_END.sub("", candidate.stem))


def _unlabelled(candidate: Candidate) -> Key:
    return (*candidate.files[0].folder, _LABEL.sub("", candidate.stem))


def _without(candidate: Candidate, suffix: str) -> Key | None:
    stem = _strip_given(candidate.files[0], suffix)
    return None if stem is None else (*candidate.files[0].folder, stem)


def _plain(candidate: Candidate) -> Key:
    return (*_plain_folder(candidate.files[0].folder), _plain_stem(candidate.stem))


def _flat(candidates: Sequence[Candidate]) -> bool:
    """Say whether folders tell none of these apart: otherwise a file of another folder is another one's."""
    return not any(_plain_folder(candidate.files[0].folder) for candidate in candidates)


def _plain_key(candidate: Candidate, suffix: str) -> Key | None:
    stem = _strip_given(candidate.files[0], suffix)
    return None if stem is None else (*_plain_folder(candidate.files[0].folder), _plain_stem(stem))


def _stem_only(candidate: Candidate) -> Key:
    return (_plain_stem(candidate.stem),)


def _plain_folder(parts: Iterable[str]) -> Key:
    plain = (_EITHER.sub("", part).strip("_-. ").casefold() for part in parts)
    return tuple(part for part in plain if part)


def _plain_stem(stem: str) -> str:
    without = _IMAGE.sub("", _LABEL.sub("", _FRAME.sub("", stem)))
    return without.strip("_-. ").casefold()


def _strip_given(file: Found, suffix: str) -> str | None:
    """Return the stem without what was given behind or before it, or None where it is not there."""
    whole = file.name.rpartition("/")[2]
    for text in (file.stem, whole):
        if text.endswith(suffix) and text != suffix:
            return text[: -len(suffix)]
    return file.stem[len(suffix) :] if file.stem.startswith(suffix) and file.stem != suffix else None
