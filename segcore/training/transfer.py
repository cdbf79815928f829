"""Where a run begins: with random weights, with those of another model, or where another run ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segcore.card import ModelCard, read_config
from segcore.config import ModelConfig, RunConfig
from segcore.errors import ConfigError, ModelError
from segcore.events import NoteEvent, Reporter
from segcore.files import share_file
from segcore.jobs.lineage import other_network
from segcore.models.build import empty_model, random_model
from segcore.models.saved import WEIGHTS, find_model, read_weights, save_state_dict
from segcore.models.segmenter import Segmenter
from segcore.models.whole_objects import INNER
from segcore.sidecar import refuse_training
from segcore.training.checkpoints import BEST, LAST
from segcore.training.state import Phase, TrainState, kept_weights, read_checkpoint

FirstWeights = Callable[[int], dict[str, Tensor]]
"""From a seed to the weights a run begins with."""
_TAKERS = "Leave it out, or choose a family that takes such weights, for example unet-encoder."


def first_weights(config: RunConfig, card: ModelCard, report: Reporter) -> FirstWeights:
    """Return how a run gets its first weights: random ones, those of `training.start_from` put over them.

    Raises
    ------
    ModelError
        The model to start from is missing, damaged or of another size; nothing was trained.
    """
    told: object = None

    def drawn(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        network = random_model(config.model, card)
        nonlocal told
        if (transferred := getattr(network, "transferred", None)) and transferred != told:
            told = transferred
            report(NoteEvent(text=f"Weights of {config.model.pretrained}: {transferred}."))
        return network.state_dict()

    model = config.model
    if model.pretrained and "pretrained" not in model.kind.options:
        text = f"model.pretrained is {model.pretrained}, but a {model.kind.title} has no use for it."
        report(NoteEvent(level="warning", text=text, remedy=_TAKERS))
    if config.training.start_from is None:
        return drawn
    weights, config_file = find_model(config.training.start_from)
    refuse_training(weights)
    options, other = read_config(config_file)
    _check_size(options, other, config, card)
    given = _renamed(read_weights(weights), options.model, config.model)
    network = empty_model(config.model, card)
    expected = network.state_dict()
    taken = {
        name: tensor
        for name, tensor in given.items()
        if name in expected and tensor.shape == expected[name].shape
    }
    parts, first = _parts(network), _first(given, expected, other, card)
    _check_parts(parts, first, taken, weights)
    report(NoteEvent(text=_describe(parts, first, taken, weights)))
    return lambda seed: {**drawn(seed), **taken}


def any_weights(config: RunConfig, card: ModelCard) -> dict[str, Tensor]:
    """Return random weights for a run that takes all of them from a checkpoint: nothing else is read."""
    return random_model(config.model.model_copy(update={"pretrained": ""}), card).state_dict()


def continue_run(
    state: TrainState, config: RunConfig, card: ModelCard, folder: Path | None, report: Reporter
) -> None:
    """Take over the state of the run `training.continue_from`: weights, optimizer, random numbers, scores.

    The schedule begins anew over `training.epochs` more epochs; epoch numbers go on. An epoch that was broken
    off there is begun anew. The best model so far stays the best until it is beaten, unless it was scored on
    other images.

    Parameters
    ----------
    state : TrainState
        A new state, filled here.
    config, card : RunConfig, ModelCard
        Of the new run.
    folder : Path or None
        Its folder; gets the best model of the other run. None where another process sees to that.
    report : Reporter
        Told where it goes on.

    Raises
    ------
    ModelError
        The other run has no checkpoint, or another network, other channels or classes.
    """
    parent = Path(config.training.continue_from or "")
    content = _read_parent(parent, config, card)
    state.restore(content, parent / "checkpoints" / LAST)
    state.part, state.micro_batch = None, config.training.micro_batch
    state.first_epoch = state.gain_epoch = state.epoch
    state.phase = Phase(state.epoch, state.step)
    state.seconds, state.interventions, state.given_up = 0.0, [], False
    if state.average and state.average.kind == "swa":
        state.average.restart()
    report(NoteEvent(text=f"Going on with run {parent.name} after epoch {state.epoch}."))
    if not state.best_epoch:
        return
    if _same_validation(parent, config, card) and (parent / "checkpoints" / BEST).is_file():
        if folder is not None:
            _take_best(parent, folder)
    else:
        state.best_dice = state.gain_dice = -1.0
        state.best_epoch = 0
        report(NoteEvent(text="The validation images are not those of that run: the best score begins anew."))


def _read_parent(parent: Path, config: RunConfig, card: ModelCard) -> dict[str, Any]:
    path = parent / "checkpoints" / LAST
    if not path.is_file():
        raise ModelError(
            f"The run {parent.name} cannot be continued: it has no checkpoint ({path} is missing).",
            "Start from its model instead (training.start_from), or choose another run.",
        )
    options, other = read_config(parent / "config.json")
    if other is None:
        raise ModelError(
            f"The run {parent.name} cannot be continued: its config.json describes no network.",
            "Choose another run.",
        )
    sizes = tuple(dict.fromkeys([*options.model.shape, *config.model.shape]))
    wanted, there = (
        (*_size(run, sizes), of.mode, of.inputs, _plan(of), of.class_values, run.model.head)
        for run, of in ((config, card), (options, other))
    )
    names = (*sizes, "dimensions", "input channels", "strides", "label values", "what is learned")
    if wanted != there:
        differences = [
            f"{name} {_words(old)} there, {_words(new)} here"
            for name, old, new in zip(names, there, wanted, strict=True)
            if old != new
        ]
        raise ModelError(
            f"The run {parent.name} cannot be continued with this configuration: {'; '.join(differences)}.",
            "Use the same data and network as there, or start from its model (training.start_from).",
        )
    if options.training.optimizer != config.training.optimizer:
        raise ConfigError(
            f"training.optimizer is {config.training.optimizer}, the run to continue used "
            f"{options.training.optimizer}.",
            "Use the same optimizer, or start from its model (training.start_from).",
        )
    # The state of the optimizer is kept weight by weight, in groups of one rate each.
    for section, name in (("model", "freeze_encoder"), ("model", "freeze"), ("training", "layer_decay")):
        if getattr(getattr(options, section), name) != getattr(getattr(config, section), name):
            raise ConfigError(
                f"{section}.{name} differs from that of the run to continue.",
                "Use the same value, or start from its model (training.start_from).",
            )
    return read_checkpoint(path)


def _same_validation(parent: Path, config: RunConfig, card: ModelCard) -> bool:
    options, other = read_config(parent / "config.json")
    same = ("axes", "labels_as", "validation_fraction", "validation_slices")
    return (
        other is not None
        and other.data_hash == card.data_hash
        and all(getattr(options.data, name) == getattr(config.data, name) for name in same)
    )


def _take_best(parent: Path, folder: Path) -> None:
    """Let the best state so far be that of the new run, too, and its weights the model."""
    source, target = parent / "checkpoints" / BEST, folder / "checkpoints" / BEST
    target.parent.mkdir(parents=True, exist_ok=True)
    share_file(source, target)
    # Not the other run's best_model.pth: somebody may have chosen another epoch for it.
    save_state_dict(kept_weights(read_checkpoint(source)), folder / WEIGHTS)


def _check_size(options: RunConfig, other: ModelCard | None, config: RunConfig, card: ModelCard) -> None:
    """Refuse a model whose network is of another size or has other dimensions."""
    if options.model.shape != config.model.shape:
        raise other_network("The model to start from", options.model, config.model)
    if other is None or other.strides == card.strides:
        return
    if not (other.strides and card.strides):
        raise ModelError(
            f"The model to start from is a {other.mode} network, this run trains a {card.mode} one: their "
            "convolutions have another number of axes.",
            f"Set data.mode to {other.mode}, or start from another model.",
        )
    raise ModelError(
        f"The model to start from shrinks planes, rows and columns by {_plan(other)} from level to level, "
        f"this run by {_plan(card)}: voxels or patches have other proportions.",
        "Use the same data.patch_depth, and images with such voxels (data.pixel_size).",
    )


def _renamed(given: Mapping[str, Tensor], there: ModelConfig, here: ModelConfig) -> Mapping[str, Tensor]:
    """Return weights by the names they have here: those of networks that draw objects are one level down."""
    if not here.kind.own_loss or there.learns_objects == here.learns_objects:
        return given
    if here.learns_objects:
        return {f"{INNER}{name}": tensor for name, tensor in given.items()}
    return {name.removeprefix(INNER): tensor for name, tensor in given.items()}


def _parts(network: Segmenter) -> dict[str, list[str]]:
    """Return the names of the arrays of every part that people speak of: encoder, bottom, decoder, head."""
    names = {id(tensor): name for name, tensor in network.state_dict(keep_vars=True).items()}
    parts: dict[str, list[str]] = {}
    for stage, part in network.stages():
        for tensor in part.state_dict(keep_vars=True).values():
            if name := names.pop(id(tensor), ""):
                parts.setdefault(stage.split()[0], []).append(name)
    if names:
        parts["rest"] = list(names.values())
    return parts


def _first(
    given: Mapping[str, Tensor], expected: Mapping[str, Tensor], other: ModelCard | None, card: ModelCard
) -> set[str]:
    """Return the arrays that differ only as the input has another number of channels: first convolutions."""
    if other is None:
        return set()
    # Of one slice, where a network sees several one by one; else of all that it sees together.
    channels = {(other.channels, card.channels), (other.inputs, card.inputs)}
    return {
        name
        for name, tensor in expected.items()
        if (old := given.get(name)) is not None
        and old.ndim == tensor.ndim > 2
        and old.shape[1] != tensor.shape[1]
        and (old.shape[1], tensor.shape[1]) in channels
        and (old.shape[0], *old.shape[2:]) == (tensor.shape[0], *tensor.shape[2:])
    }


def _check_parts(
    parts: dict[str, list[str]], first: set[str], taken: dict[str, Tensor], weights: Path
) -> None:
    """Refuse a model of which more than the first convolutions and the head do not fit."""
    names = [name for part in parts.values() for name in part]
    missing = [name for name in names if name not in taken and name not in first.union(parts["head"])]
    if missing:
        raise ModelError(
            f"{weights} does not fit this network: {len(missing)} of its {len(names)} arrays differ "
            f"({', '.join(missing[:3])} …).",
            "Use a model trained with the same features and layers.",
        )


def _describe(parts: dict[str, list[str]], first: set[str], taken: dict[str, Tensor], weights: Path) -> str:
    """Say part by part what was taken over."""
    whole = [part for part, names in parts.items() if all(name in taken for name in names)]
    texts = [f"{', '.join(whole)} taken over"]
    if first:
        texts.append("first convolution new, as the input has another number of channels")
    if not taken.keys() >= set(parts["head"]):
        texts.append("head new, as it answers another number of maps")
    return f"Starting from {weights.parent.name}/{weights.name}: {'; '.join(texts)}."


def _size(run: RunConfig, names: Sequence[str]) -> tuple[object, ...]:
    return tuple(run.model.shape.get(name, "none") for name in names)


def _plan(card: ModelCard) -> str:
    """Say how a 3d network shrinks its images: "1×2×2, 2×2×2"."""
    return ", ".join("×".join(map(str, step)) for step in card.strides)


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
