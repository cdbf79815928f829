"""Writes the description of a model of another program: what can be read and tried, and what is left open."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from segcore.config import explain
from segcore.errors import ConfigError, ModelError
from segcore.models.foreign.loading import agree, open_engine, settle, title_of
from segcore.models.foreign.network import Manner
from segcore.models.foreign.torchscript import TorchScript
from segcore.sidecar import Shape, Sidecar, made_elsewhere, sidecar_of

FIRST_CONVOLUTION = "as many as the first convolution takes"
USUAL_MODE = "planes one by one; 2.5d if its channels are neighbouring slices"


@dataclass(frozen=True)
class Description:
    """What is known of a model.

    Parameters
    ----------
    content : dict
        For the file; None for what a person must fill in.
    notes : tuple of str
        What was found, for a person.
    open : tuple of str
        Names of what must be filled in.
    """

    content: dict[str, Any]
    notes: tuple[str, ...]
    open: tuple[str, ...]


def describe_model(weights: Path, given: dict[str, Any]) -> Description:
    """Read and try a model of another program.

    Parameters
    ----------
    weights : Path
        The file.
    given : dict
        What a person says of it, by the names of `Sidecar`.

    Raises
    ------
    ModelError
        The file is damaged, could run code, contradicts what is given, or cannot be applied.
    ConfigError
        What is given breaks a rule, or a package is missing.
    """
    if weights.is_file() and not made_elsewhere(weights):
        raise ModelError(
            f"{weights} is no model of another program.",
            "Give an ONNX, TorchScript (.pt), torch.export (.pt2) or Keras file.",
        )
    given = dict(given)
    told = _shape(given)
    engine = open_engine(weights, told)
    assumed: dict[str, str] = {}
    if isinstance(engine, TorchScript) and told.channels is None and engine.first_inputs is not None:
        given["channels"] = engine.first_inputs // told.context_slices
        assumed["channels"] = FIRST_CONVOLUTION
    told = _shape(given)
    agreed = agree(engine.facts, told, sidecar_of(weights))
    if told.mode is None and agreed.dimensions == 2 and "mode" not in agreed.missing:
        assumed["mode"] = USUAL_MODE
    content: dict[str, Any] = {
        "normalization": None,
        "class_names": None,
        "channels": None if "channels" in agreed.missing else agreed.channels,
        "channels_last": None if "channels_last" in agreed.missing else agreed.channels_last,
        "mode": None if "mode" in agreed.missing else agreed.mode,
        "output": told.output or engine.facts.output,
    }
    notes = [f"{title_of(weights)} with {engine.facts.parameters:,} numbers that were learned"]
    if agreed.can_ask:
        manner = settle(engine, told, agreed, torch.device("cpu"))
        content |= _measured(manner)
        notes += _found(manner)
    else:
        notes.append("It could not be tried: fill in what is open, and describe it again.")
    content |= given
    if assumed:
        content["assumed"] = assumed
        notes += [f"assumed: {name} {content[name]}, {why}" for name, why in assumed.items()]
    return Description(content, tuple(notes), tuple(name for name, value in content.items() if value is None))


def _shape(given: dict[str, Any]) -> Shape:
    """Return what is given of the network, checked.

    Raises
    ------
    ConfigError
        It breaks a rule.
    """
    strange = [name for name in given if name not in Sidecar.model_fields]
    if strange:
        raise ConfigError(
            f"{strange[0]} is not part of a description.", f"Known: {', '.join(Sidecar.model_fields)}."
        )
    own = {name: value for name, value in given.items() if name in Shape.model_fields}
    # Normalisation and classes may still be open; what is given of them must be right all the same.
    usual = {"normalization": {"kind": "none"}, "class_names": ("background", "foreground")}
    if "class_values" in given and "class_names" not in given:
        usual["class_names"] = tuple(map(str, given["class_values"]))
    try:
        Sidecar.model_validate(usual | given)
        return Shape.model_validate(own)
    except ValidationError as error:
        raise ConfigError("\n".join(text for _, text in explain(error))) from error


def _measured(manner: Manner) -> dict[str, Any]:
    """Return what was tried, so that it need not be tried again."""
    if manner.window is not None:
        return {"input_size": list(manner.window), "halo": list(manner.overlap)}
    measured: dict[str, Any] = {"size_step": list(manner.steps), "bytes_per_pixel": manner.bytes_per_pixel}
    # Of a network that sees all of an image nothing is noted: who reads a halo believes that it is local.
    return measured | ({"halo": list(manner.halo)} if manner.is_local else {})


def _found(manner: Manner) -> list[str]:
    """Return what was tried, for a person."""
    maps = "1 map (of the foreground)" if manner.maps == 1 else f"{manner.maps} maps"
    channels = "1 channel" if manner.inputs == 1 else f"{manner.inputs} channels"
    lines = [f"{channels} in, {maps} out"]
    if manner.window is not None:
        size = " × ".join(map(str, manner.window))
        return [*lines, f"takes {size} px only: larger images are divided into windows that overlap"]
    lines.append(f"takes images of any multiple of {' × '.join(map(str, manner.steps))} px")
    far = " × ".join(map(str, manner.halo))
    return [*lines, f"sees {far} px far" if manner.is_local else "sees the whole image"]
