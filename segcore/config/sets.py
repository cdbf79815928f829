"""Sets of images beside the first one: what each is for, and which of them may stand in for the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal, get_args

from segcore.config.option import Section, option
from segcore.errors import ConfigError

Use = Literal["train", "validation", "test", "split", "teach"]
_FORM = 'Write it as [{"images": "b.tif", "labels": "b_labels.tif", "use": "validation"}]'
_MOST_TOLD = 5


class TrainingSet(Section):
    """One more set of images beside `data.images`, with its own labels."""

    images: str = option(..., "Images: a file, a folder or an address.", label="Raw images")
    labels: str = option("", "Their labels; only images that are taught need none.", label="Annotations")
    mask: str | None = option(None, "Where they are annotated.", label="Annotated part")
    use: Use = option(
        "split",
        "What the set is for: training, validation or test as a whole, or split like the others; teach: a "
        "teacher answers for it, or labels that were made elsewhere.",
        label="Use",
    )


def check_sets(value: Any) -> Any:
    """Return `value` if it can be read as a list of sets.

    Raises
    ------
    ValueError
        It cannot; all that is wrong, in the words of the option.
    """
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError(f"data.sets is {_short(value)}: it must be a list. {_FORM}.")
    problems = [f"set {at} {wrong}" for at, one in enumerate(value, 1) for wrong in _wrong(one)]
    if problems:
        more = [f"and {len(problems) - _MOST_TOLD} more"] if len(problems) > _MOST_TOLD else []
        raise ValueError(f"data.sets: {'; '.join(problems[:_MOST_TOLD] + more)}. {_FORM}.")
    return value


def choose_main(sets: Sequence[TrainingSet], divided: bool) -> TrainingSet:
    """Return the set that can stand where there are no images beside the sets.

    Those images are divided into training and validation: so can be the first set to be divided, or the first
    for training if another one validates and nothing else is taken from it.

    Parameters
    ----------
    sets : sequence of TrainingSet
        At least one.
    divided : bool
        Whether a share for a test or folds are asked for.

    Raises
    ------
    ConfigError
        There is no such set.
    """
    uses = [one.use for one in sets]
    if "split" in uses:
        return sets[uses.index("split")]
    if "train" in uses and "validation" in uses and not divided:
        return sets[uses.index("train")]
    raise ConfigError(
        f"data.images is missing, and none of data.sets can take its place: they are for {', '.join(uses)}.",
        "Give one of them the use split, or name images and labels of one as data.images and data.labels.",
    )


def _wrong(one: Any) -> list[str]:
    if isinstance(one, TrainingSet):
        return []
    if not isinstance(one, Mapping):
        return [f"is {_short(one)}, which is no set"]
    known = list(TrainingSet.model_fields)
    wrong = []
    for name in one:
        near = get_close_matches(str(name), known, 1) if name not in known else []
        if name not in known:
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            wrong.append(f"has {name!r}, which is not known ({hint})")
    for name in ("images", "labels"):
        if name not in one and not (name == "labels" and one.get("use") == "teach"):
            wrong.append(f"has no {name!r}")
    for name in ("images", "labels", "mask"):
        value = one.get(name, "")
        if not isinstance(value, str) and not (name == "mask" and value is None):
            wrong.append(f"has {name} {_short(value)}, which is no path")
    if one.get("use", "split") not in get_args(Use):
        wrong.append(f"has the use {_short(one['use'])}, which is none of {', '.join(get_args(Use))}")
    return wrong


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
