"""Files of torch.export (`.pt2`): a graph of torch's operations as JSON, and its numbers.

`torch.export.load` of torch 2.13 warns that it unpickles, and with reason: weights may be pickles, names of
operations are looked up in all of torch, sizes are evaluated as Python, and names end up in generated code.
A file that `torch.export.save` writes of a network needs none of it, so all of it is refused before loading.
"""

from __future__ import annotations

import io
import json
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segcore.errors import ModelError
from segcore.models.foreign.engine import Facts, OnTorch, layout_of, pick
from segcore.sidecar import Output

_MEMBERS = re.compile(
    r"(archive_format|archive_version|byteorder|version|\.data/(serialization_id|version)|\.format_version"
    r"|\.storage_alignment|models/model\.json|data/weights/(weight_\d+|model_weights_config\.json)"
    r"|data/constants/(tensor_\d+|model_constants_config\.json)|data/sample_inputs/model\.pt|extra/.*)"
)
_TARGET = re.compile(
    r"torch\.ops\.aten\.\w+(\.\w+)?|torch\.sym_\w+|_operator\.\w+|math\.\w+|"
    r"torch\.ops\.higher_order\.(wrap_with_set_grad_enabled|wrap_with_autocast)"
)
_OPENS_FILES = ("from_file", "save", "load")
_OPERATORS = {
    "add", "sub", "mul", "neg", "pos", "floordiv", "truediv", "mod", "pow", "getitem", "eq", "ne", "lt", "le",
    "gt", "ge", "and_", "or_", "not_",
}  # fmt: skip
_SIZES = re.compile(r"[\w\s(),=.'+*/-]*")
_SYMBOL = re.compile(r"'[a-z]\w{0,15}'")
_WORDS = {
    "Symbol", "Integer", "Rational", "Float", "Add", "Mul", "Pow", "Max", "Min", "Mod", "PythonMod",
    "FloorDiv", "CleanDiv", "CeilDiv", "CeilToInt", "FloorToInt", "TruncToInt", "ToFloat", "IntTrueDiv",
    "FloatTrueDiv",
    "PowByNatural", "ModularIndexing", "Identity", "Where", "Equality", "Unequality", "StrictLessThan",
    "StrictGreaterThan", "LessThan", "GreaterThan", "And", "Or", "Not", "Eq", "Ne", "Lt", "Le", "Gt", "Ge",
    "true", "false", "True", "False", "positive", "integer", "nonnegative", "real", "precision", "evaluate",
}  # fmt: skip
_CALLS = re.compile(r"[();=@\x00-\x1f]")
"""What no name, constant or tree of a network holds, and no code can do without."""
_ENDS: dict[str, Output] = {
    "softmax": "probabilities",
    "_softmax": "probabilities",
    "sigmoid": "sigmoid",
    "sigmoid_": "sigmoid",
    "log_softmax": "logits",
    "conv2d": "logits",
    "conv3d": "logits",
    "convolution": "logits",
}


class Exported(OnTorch):
    """A network saved by `torch.export.save`.

    Parameters
    ----------
    path : Path
        The file.
    output : str
        Which of several outputs counts.

    Raises
    ------
    ModelError
        It is damaged, or holds more than a graph and its numbers.
    """

    def __init__(self, path: Path, output: str = "") -> None:
        self._file, self._output = path.name, output
        content = _checked(path)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's remarks on its own format
                self._exported = torch.export.load(io.BytesIO(content))
        except Exception as error:  # a damaged file makes the reader fail in any way
            raise _damaged(path) from error
        self._module, self._device = self._exported.module(check_guards=False), torch.device("cpu")
        weights = list(self._exported.state_dict.values())
        self._dtype = next((each.dtype for each in weights if each.is_floating_point()), torch.float32)
        self.facts = self._read(sum(weight.numel() for weight in weights))

    def __call__(self, images: Tensor) -> Tensor:
        """Return what the network answers, see `Engine`."""
        if images.device != self._device:
            from torch.export.passes import move_to_device_pass

            moved = move_to_device_pass(self._exported, images.device)
            self._module, self._device = moved.module(check_guards=False), images.device
        return pick(self._module(images.to(self._dtype)), self._output, self._file).float()

    def _read(self, parameters: int) -> Facts:
        """Return what the graph says.

        Raises
        ------
        ModelError
            It takes more than one image.
        """
        names = set(self._exported.graph_signature.user_inputs)
        shapes = [
            [size if isinstance(size, int) else None for size in node.meta["val"].shape]
            for node in self._exported.graph.nodes
            if node.op == "placeholder" and node.name in names
        ]
        if len(shapes) != 1 or len(shapes[0]) not in (4, 5):
            raise ModelError(
                f"{self._file} takes {len(shapes)} inputs of {[len(shape) for shape in shapes]} axes.",
                "Export a network that takes one batch of images, B C Y X or B C Z Y X.",
            )
        told = layout_of(shapes[0], channels_last=False)
        answers = self._exported.graph_signature.user_outputs
        last = [node for node in self._exported.graph.nodes if node.name == answers[0]]
        end = str(last[0].target).split(".")[1] if last and len(answers) == 1 else ""
        return Facts(
            told.inputs, told.dimensions, False, told.sizes, told.batch, _ENDS.get(end), parameters=parameters
        )


def _checked(path: Path) -> bytes:
    """Return the content of a file that holds a graph and its numbers, and nothing that could run.

    Raises
    ------
    ModelError
        It holds more, or it is damaged.
    """
    try:
        content = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            reason = next(_reasons_against(archive), None)
    except Exception as error:  # a damaged file makes the reader fail in any way
        raise _damaged(path) from error
    if reason is not None:
        raise ModelError(
            f"{path} holds {reason}: loading it could run code, so it was not opened.",
            "Export the network again with torch.export.save, or as ONNX.",
        )
    return content


def _damaged(path: Path) -> ModelError:
    return ModelError(
        f"{path} is damaged or not a file of torch.export.",
        "Copy it again, or export it again with this torch.",
    )


def _reasons_against(archive: zipfile.ZipFile) -> Iterator[str]:
    """Yield what a file holds that could run."""
    members = {name.partition("/")[2]: name for name in archive.namelist()}
    twice = [name for name, count in Counter(archive.namelist()).items() if count > 1]
    strange = [name for name in members if not _MEMBERS.fullmatch(name)]
    if twice or strange or len(members) != len(archive.namelist()):
        yield f"a part {(twice or strange or ['of another folder'])[0]!r}"
    for kind in ("weights", "constants"):
        entries = json.loads(archive.read(members[f"data/{kind}/model_{kind}_config.json"]))["config"]
        for name, entry in entries.items():
            if entry["use_pickle"] or not re.fullmatch(r"(weight|tensor)_\d+", entry["path_name"]):
                yield f"a pickled object {name!r}"
    sample = archive.read(members["data/sample_inputs/model.pt"])
    try:
        # torch.export.load does the same first, and unpickles anything if it fails.
        torch.load(io.BytesIO(sample), weights_only=True) if sample else None
    except Exception:
        yield "sample inputs that are more than numbers"
    yield from _suspicious(json.loads(archive.read(members["models/model.json"])), "")


def _suspicious(value: Any, key: str) -> Iterator[str]:
    """Yield what in a graph is more than an operation of torch, a size or a name."""
    if isinstance(value, dict):
        is_node = "target" in value and "inputs" in value
        for name, inner in value.items():
            if _CALLS.search(name):
                yield f"a strange name {name[:40]!r}"
            if not _is_never_run(name, inner):
                yield from _suspicious(inner, "operation" if is_node and name == "target" else name)
    elif isinstance(value, list):
        for inner in value:
            yield from _suspicious(inner, key)
    elif isinstance(value, str):
        if key == "operation":
            suspicious = not _only_computes(value)
        elif key == "expr_str":
            words = set(re.findall(r"[A-Za-z_]\w*", _SYMBOL.sub("", value)))
            suspicious = not _SIZES.fullmatch(value) or not words <= _WORDS
        else:
            suspicious = _CALLS.search(value) is not None
        if suspicious:
            yield f"the {key or 'text'} {value[:40]!r}"


def _is_never_run(name: str, value: Any) -> bool:
    """Say whether texts are what is kept of the source code, or guards, which the network is made without."""
    texts = value.values() if isinstance(value, dict) else value
    return name in ("metadata", "guards_code") and all(isinstance(text, str) for text in texts)


def _only_computes(operation: str) -> bool:
    if not _TARGET.fullmatch(operation):
        return False
    if operation.startswith("_operator."):
        return operation.removeprefix("_operator.") in _OPERATORS
    return not (operation.startswith("torch.ops.aten.") and operation.split(".")[3] in _OPENS_FILES)
