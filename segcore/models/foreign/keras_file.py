"""Keras models (`.keras`, `.h5`), computed by Keras 3 on torch, an optional package.

A Keras file names the classes its layers are made of, and some of them run code of the file or open other
files. Keras's own safe mode has had holes, so only layers that compute are let through, by name, before Keras
sees the file; see https://keras.io/api/models/model_saving_apis and CVE-2025-9905 (Lambda layers in HDF5).
"""

from __future__ import annotations

import io
import json
import os
import sys
import warnings
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segcore.errors import ConfigError, ModelError
from segcore.models.foreign.engine import Facts, OnTorch, layout_of, pick
from segcore.sidecar import Output

INSTALL = "pip install 'segcore-studio[keras]'"
LAYERS = {
    "Functional", "Model", "Sequential", "InputLayer", "Activation", "Add", "AlphaDropout", "Attention",
    "Average", "AveragePooling2D", "AveragePooling3D", "BatchNormalization", "CenterCrop", "Concatenate",
    "Conv2D", "Conv2DTranspose", "Conv3D", "Conv3DTranspose", "Cropping2D", "Cropping3D", "Dense",
    "DepthwiseConv2D", "Dot", "Dropout", "ELU", "Flatten", "GaussianDropout", "GaussianNoise",
    "GlobalAveragePooling2D", "GlobalAveragePooling3D", "GlobalMaxPooling2D", "GlobalMaxPooling3D",
    "GroupNormalization", "GroupQueryAttention", "Identity", "LayerNormalization", "LeakyReLU",
    "MaxPooling2D", "MaxPooling3D", "Maximum", "Minimum", "MultiHeadAttention", "Multiply", "Normalization",
    "PReLU", "Permute", "RandomBrightness", "RandomContrast", "RandomFlip", "RandomRotation",
    "RandomTranslation", "RandomZoom", "ReLU", "RepeatVector", "Rescaling", "Reshape", "Resizing",
    "SeparableConv2D", "Softmax", "SpatialDropout2D", "SpatialDropout3D", "SpectralNormalization", "Subtract",
    "UnitNormalization", "UpSampling2D", "UpSampling3D", "ZeroPadding2D", "ZeroPadding3D",
}  # fmt: skip
"""Layers that only compute."""
_VALUES = {"__keras_tensor__", "__tuple__", "__numpy__", "__tensor__", "DTypePolicy", "Policy"}
_MODULES = {
    "keras", "keras.layers", "keras.models", "keras.initializers", "keras.regularizers", "keras.constraints",
    "keras.dtype_policies",
}  # fmt: skip
_LEARNS = {"compile_config", "training_config", "optimizer_config"}
"""Only for training: left out wherever it stands, since Keras itself leaves out the outermost one only."""
_ENDS: dict[str, Output] = {"softmax": "probabilities", "sigmoid": "sigmoid", "linear": "logits"}


class Keras(OnTorch):
    """A Keras model.

    Parameters
    ----------
    path : Path
        The file.
    output : str
        Which of several outputs counts.
    channels_last : bool, optional
        Where its description says so, of a model whose layers do not.

    Raises
    ------
    ConfigError
        Keras is not installed, or was imported on another backend.
    ModelError
        The file is damaged, holds weights only, or layers that could run code.
    """

    def __init__(self, path: Path, output: str = "", channels_last: bool | None = None) -> None:
        keras = require_keras()
        content = _checked(path)
        self._file, self._output, self._keras = path.name, output, keras
        try:
            with warnings.catch_warnings(), keras.device("cpu:0"):
                warnings.simplefilter("ignore")  # about optimizers and formats
                self._model: Any = _load(keras, path, content)
        except Exception as error:  # a damaged file makes the reader fail in any way
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise ModelError(
                f"{path} cannot be read as a Keras model: {reason}", "Save it again with a present Keras."
            ) from error
        self._device = torch.device("cpu")
        self.facts = self._read(channels_last)

    def __call__(self, images: Tensor) -> Tensor:
        """Return what the network answers, see `Engine`."""
        if images.device != self._device:
            self._model, self._device = self._model.to(images.device), images.device
        name = "cpu:0" if images.device.type == "cpu" else f"gpu:{images.device.index or 0}"
        with self._keras.device(name), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pick(self._model(images, training=False), self._output, self._file).float()

    def _read(self, told_last: bool | None) -> Facts:
        """Return what the model says.

        Raises
        ------
        ModelError
            It does not take one batch of images.
        """
        inputs = self._model.inputs
        if len(inputs) != 1 or len(inputs[0].shape) not in (4, 5):
            raise ModelError(
                f"{self._file} takes {len(inputs)} inputs of {[len(each.shape) for each in inputs]} axes.",
                "Save a model that takes one batch of images.",
            )
        layers = list(self._model._flatten_layers())
        formats = {layer.data_format for layer in layers if getattr(layer, "data_format", None)}
        last = (
            {"channels_last": True, "channels_first": False}.get(formats.pop()) if len(formats) == 1 else None
        )
        told = layout_of(list(inputs[0].shape), last)
        outputs = self._model.outputs
        end = outputs[0]._keras_history[0] if len(outputs) == 1 else None
        return Facts(
            *(told.inputs, told.dimensions, told.channels_last, told.sizes, told.batch),
            output=_end_of(end),
            parameters=int(self._model.count_params()),
        )


def require_keras() -> Any:
    """Return Keras, on torch.

    Raises
    ------
    ConfigError
        It is not installed, or computes on something else in this process.
    """
    if find_spec("keras") is None:
        raise ConfigError("The model is a Keras file, but keras is not installed.", f"Install it: {INSTALL}.")
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "torch"
    import keras

    if keras.backend.backend() != "torch":
        raise ConfigError(
            f"Keras computes on {keras.backend.backend()} in this process.",
            "Set KERAS_BACKEND=torch before Keras is imported.",
        )
    return keras


def _load(keras: Any, path: Path, content: bytes) -> Any:
    """Return the model of a file that was checked: what is read is what was checked."""
    if path.suffix.lower() == ".keras":
        return keras.src.saving.saving_lib.load_model(io.BytesIO(content), compile=False, safe_mode=True)
    import h5py

    with h5py.File(io.BytesIO(content), "r") as file:
        return keras.src.legacy.saving.legacy_h5_format.load_model_from_hdf5(
            file, compile=False, safe_mode=True
        )


def _checked(path: Path) -> bytes:
    """Return the content of a file of nothing but layers that compute and their weights, made to predict.

    Raises
    ------
    ModelError
        It holds more, or it is damaged.
    """
    try:
        content = path.read_bytes()
        is_zip = path.suffix.lower() == ".keras"
        whole = _zip_config(content) if is_zip else _hdf5_config(content)
        config = _to_predict(whole)
        if config != whole:
            content = _zip_with(content, config) if is_zip else _hdf5_with(content, config)
    except Exception as error:  # a damaged file makes the reader fail in any way
        raise ModelError(
            f"{path} is damaged or not a Keras model.", "Copy it again, or save it again."
        ) from error
    if config is None:
        raise ModelError(
            f"{path} holds weights only, or numbers of something else.",
            "Save the whole model: model.save('net.keras').",
        )
    for name in _strange(config):
        code = (
            "which is Python code"
            if name in ("Lambda", "__lambda__")
            else "which is not known to only compute"
        )
        raise ModelError(
            f"{path} holds a {name} layer, {code}: it was not opened.",
            "Build the model without it, from layers of Keras, or export it as ONNX.",
        )
    return content


def _zip_config(content: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        config = json.loads(archive.read("config.json"))
        if "model.weights.h5" not in archive.namelist():
            return None
        _check_inside(archive.read("model.weights.h5"))
    return config


def _hdf5_config(content: bytes) -> Any:
    import h5py

    _check_inside(content)
    with h5py.File(io.BytesIO(content), "r") as file:
        config = file.attrs.get("model_config")
    return None if config is None else json.loads(config)


def _zip_with(content: bytes, config: Any) -> bytes:
    """Return a `.keras` file with another configuration; its parts are read once by name, as Keras does."""
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(changed, "w") as new:
        for name in dict.fromkeys(old.namelist()):
            new.writestr(name, json.dumps(config) if name == "config.json" else old.read(name))
    return changed.getvalue()


def _hdf5_with(content: bytes, config: Any) -> bytes:
    import h5py

    changed = io.BytesIO(content)
    with h5py.File(changed, "r+") as file:
        file.attrs["model_config"] = json.dumps(config)
    return changed.getvalue()


def _to_predict(config: Any) -> Any:
    """Return a configuration without what is only for training."""
    if isinstance(config, list):
        return [_to_predict(inner) for inner in config]
    if not isinstance(config, dict):
        return config
    return {key: _to_predict(inner) for key, inner in config.items() if key not in _LEARNS}


def _check_inside(content: bytes) -> None:
    """Refuse HDF5 whose numbers lie in other files, which may be any of this machine.

    Raises
    ------
    ValueError
        They do.
    """
    import h5py

    with h5py.File(io.BytesIO(content), "r") as file:
        groups = [file]
        while groups:
            group = groups.pop()
            for name in group:
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise ValueError(f"{name} is a link")
                node = group[name]
                if isinstance(node, h5py.Group):
                    groups.append(node)
                elif node.external or node.is_virtual:
                    raise ValueError(f"{name} lies in another file")


def _strange(config: Any) -> Iterator[str]:
    """Yield the classes of a configuration that are not known to only compute."""
    if isinstance(config, list):
        for inner in config:
            yield from _strange(inner)
    if not isinstance(config, dict):
        return
    if "class_name" in config:
        name, module = str(config["class_name"]), str(config.get("module") or "")
        ours = not module or module in _MODULES or module.startswith("keras.src.")
        if not (ours and (name in LAYERS or name in _VALUES or _is_part(name))):
            yield name
    for inner in config.values():
        yield from _strange(inner)


def _is_part(name: str) -> bool:
    """Say whether Keras has an initializer, a regularizer or a constraint of this name."""
    import keras

    return any(
        isinstance(getattr(place, name, None), type)
        for place in (keras.initializers, keras.regularizers, keras.constraints)
    )


def _end_of(layer: Any) -> Output | None:
    """Return what the last layer makes of the numbers, where that is known."""
    if layer is None:
        return None
    if type(layer).__name__ == "Softmax":
        return "probabilities"
    return _ENDS.get(getattr(getattr(layer, "activation", None), "__name__", ""))
