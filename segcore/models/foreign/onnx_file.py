"""ONNX files (`.onnx`), computed by ONNX Runtime, an optional package.

See https://onnxruntime.ai/docs/api/python and https://onnx.ai/onnx/repo-docs/ExternalData.html.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segcore.errors import ConfigError, ModelError
from segcore.models.foreign.engine import Facts, layout_of, pick
from segcore.sidecar import Output

INSTALL = "pip install 'segcore-studio[onnx]'"
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
_ENDS: dict[str, Output] = {
    "Softmax": "probabilities",
    "Sigmoid": "sigmoid",
    "LogSoftmax": "logits",
    "Conv": "logits",
    "ConvTranspose": "logits",
}
_CARRIES = {"Identity", "Transpose", "Cast", "Squeeze", "Unsqueeze", "Reshape"}
"""What changes no number."""


class Onnx:
    """An ONNX network.

    Parameters
    ----------
    path : Path
        The file; its numbers may lie in files beside it.
    output : str
        Which of several outputs counts.
    channels_last : bool, optional
        Where its description says so.

    Raises
    ------
    ConfigError
        ONNX Runtime is not installed.
    ModelError
        The file is damaged, names files elsewhere, or takes something else than a batch of images.
    """

    def __init__(self, path: Path, output: str = "", channels_last: bool | None = None) -> None:
        require_onnx()
        import onnxruntime

        self._path, self._output = path, output
        graph = _read(path)
        self._options = onnxruntime.SessionOptions()
        self._options.log_severity_level = 4  # its remarks on the graph are not for our users
        self._options.intra_op_num_threads = torch.get_num_threads()
        self._device = torch.device("cpu")
        self._session = self._open(self._device)
        given = self._session.get_inputs()
        if len(given) != 1 or given[0].type not in _TYPES or len(given[0].shape) not in (4, 5):
            inputs = ", ".join(f"{each.name} {each.type} of {len(each.shape)} axes" for each in given)
            raise ModelError(
                f"{path.name} takes {inputs or 'nothing'}.",
                "Export a network that takes one batch of images of floating-point numbers.",
            )
        self._input, self._type = given[0].name, _TYPES[given[0].type]
        shape = [size if isinstance(size, int) and size > 0 else None for size in given[0].shape]
        reads = _is_last(graph, self._input)
        told = layout_of(shape, channels_last if reads is None else reads)
        names = [each.name for each in self._session.get_outputs()]
        counts = names[0] if len(names) == 1 else output
        self.facts = Facts(
            *(told.inputs, told.dimensions, told.channels_last, told.sizes, told.batch),
            output=_end_of(graph, counts),
            parameters=sum(
                int(np.prod(each.dims)) for each in graph.initializer if each.data_type in (1, 10, 11)
            ),
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Return what the network answers, see `Engine`."""
        if images.device != self._device:
            self._session, self._device = self._open(images.device), images.device
        answers = self._session.run(None, {self._input: images.cpu().numpy().astype(self._type, copy=False)})
        named = {each.name: answer for each, answer in zip(self._session.get_outputs(), answers, strict=True)}
        tensors = {name: torch.from_numpy(np.asarray(answer)) for name, answer in named.items()}
        return pick(tensors, self._output, self._path.name).float().to(images.device)

    def peak_bytes(self, images: Tensor) -> int | None:
        """Return the most bytes of numbers that live at once, in the order of the graph; see `Engine`."""
        import onnx

        model = onnx.load(str(self._path), load_external_data=False)
        del model.graph.value_info[:]  # whose sizes are names
        given = next(each for each in model.graph.input if each.name == self._input)
        for axis, size in zip(given.type.tensor_type.shape.dim, images.shape, strict=True):
            axis.dim_value = size
        try:
            graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        except Exception:  # larger than a message of the format may be, or an operation it does not know
            return None
        return _peak(graph, self._input)

    def _open(self, device: torch.device) -> Any:
        """Return a session on a device; on the CPU where this package was made for no other.

        Raises
        ------
        ModelError
            The runtime does not take the file.
        """
        import onnxruntime

        there = onnxruntime.get_available_providers()
        providers = ["CPUExecutionProvider"]
        if device.type == "cuda" and "CUDAExecutionProvider" in there:
            providers.insert(0, "CUDAExecutionProvider")
        try:
            return onnxruntime.InferenceSession(str(self._path), self._options, providers=providers)
        except Exception as error:  # it has an exception for every reason, without a common class
            reason = str(error).strip().splitlines()[-1][:200]
            raise ModelError(
                f"{self._path} is not taken by ONNX Runtime: {reason}", "Export it again, for opset 17 or so."
            ) from error


def require_onnx() -> None:
    """Raise if the packages that read and compute ONNX are not installed.

    Raises
    ------
    ConfigError
        One is not.
    """
    for name in ("onnxruntime", "onnx"):
        if find_spec(name) is None:
            raise ConfigError(
                f"The model is an ONNX file, but {name} is not installed.", f"Install it: {INSTALL}."
            )


def _read(path: Path) -> Any:
    """Return the graph without its numbers.

    Raises
    ------
    ModelError
        The file is damaged, or its numbers lie somewhere else than beside it.
    """
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # a damaged file makes the reader fail in any way
        raise ModelError(
            f"{path} is damaged or not an ONNX file.", "Copy it again, or export it again."
        ) from error
    if not model.graph.node:
        raise ModelError(f"{path} is damaged or not an ONNX file.", "Copy it again, or export it again.")
    _external(path, model.graph)
    return model.graph


def external_files(path: Path) -> list[Path]:
    """Return the files beside an ONNX file that hold its numbers.

    Raises
    ------
    ModelError
        They lie elsewhere, or are missing.
    """
    import onnx

    return _external(path, onnx.load(str(path), load_external_data=False).graph)


def _external(path: Path, graph: Any) -> list[Path]:
    names = {
        entry.value for tensor in _tensors(graph) for entry in tensor.external_data if entry.key == "location"
    }
    for name in sorted(names):
        file = path.with_name(Path(name).name)
        if Path(name).name != name or file.is_symlink():
            raise ModelError(
                f"{path} has its numbers in another folder ({name}): it was not opened.",
                "Save it with its numbers in one file, or beside it.",
            )
        if not file.is_file():
            raise ModelError(f"{path} has its numbers in {name}, which is missing.", f"Put {name} beside it.")
    return [path.with_name(name) for name in sorted(names)]


def _tensors(graph: Any) -> Iterator[Any]:
    """Yield all constants of a graph and of the graphs within it."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.initializer:
                    yield from _tensors(inner)


def _peak(graph: Any, image: str) -> int | None:
    """Return the most bytes that live at once, None where the size of a tensor is not known.

    Weights do not count, which older files name among the inputs.
    """
    sizes = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shape = [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        sizes[value.name] = 4 * int(np.prod(shape)) if all(shape) else None
    last = {name: number for number, node in enumerate(graph.node) for name in node.input}
    live = {image: sizes[image]}
    most = 0
    for number, node in enumerate(graph.node):
        live |= {name: sizes.get(name) for name in node.output if name}
        if None in live.values():
            return None
        most = max(most, sum(size or 0 for size in live.values()))
        live = {name: size for name, size in live.items() if last.get(name, number) > number}
    return most


def _is_last(graph: Any, name: str) -> bool | None:
    """Say whether channels are the last axis of the input, where what is done to it first tells.

    Convolutions of ONNX have them behind the batch; networks that do not begin with a transposition.
    """
    for node in graph.node:
        if name in node.input:
            if node.op_type in ("Conv", "BatchNormalization", "InstanceNormalization", "MaxPool"):
                return False
            if node.op_type == "Transpose":
                axes = [list(each.ints) for each in node.attribute if each.name == "perm"]
                return axes == [[0, len(axes[0]) - 1, *range(1, len(axes[0]) - 1)]] if axes else None
    return None


def _end_of(graph: Any, name: str) -> Output | None:
    """Return what the last operation that changes numbers makes of them, where that is known."""
    makers = {output: node for node in graph.node for output in node.output}
    node = makers.get(name)
    while node is not None and node.op_type in _CARRIES and node.input:
        node = makers.get(node.input[0])
    return _ENDS.get(node.op_type) if node is not None else None
