"""TorchScript files (`.pt`): programs for torch's own interpreter, which knows no Python.

`torch.jit.load` reads numbers and code of that language and no Python objects; but a few of its operations
open files, so a program that names one is refused before it is loaded, since loading may already run it.
See https://docs.pytorch.org/docs/stable/jit.html and SECURITY.md of PyTorch, "Running untrusted models".
"""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segcore.errors import ModelError
from segcore.models.foreign.engine import Facts, OnTorch, pick
from segcore.sidecar import Output

_GAP = r"(?:\s|\\\r?\n|#[^\n]*\n)*"
"""What may stand between two words: blanks, the end of a line that goes on, a comment."""
_FORBIDDEN = r"(?:save|load|from_file|\w*pickle\w*)"
_OPENS_FILES = re.compile(rf"\.{_GAP}{_FORBIDDEN}\b")
"""Whatever stands before the dot: any name may stand for torch, and any tensor may save itself."""
_BY_NAME = re.compile(r"\bgetattr\((?P<of>[^()\"'#]*), \"(?P<name>[^\"\\\n]*)\"\)")
"""A part asked for by its name, as torch writes it where the name is a number."""
_NAMESPACE = re.compile(rf"(?<![\w.])ops\b(?:{_GAP}\.{_GAP}(\w+){_GAP}\.)?")
_KNOWN = {"aten", "prim", "prims", "quantized", "torchvision"}
_ENDS: dict[str, Output] = {
    "aten::softmax": "probabilities",
    "aten::_softmax": "probabilities",
    "aten::sigmoid": "sigmoid",
    "aten::sigmoid_": "sigmoid",
    "aten::log_softmax": "logits",
    "aten::_convolution": "logits",
    "aten::conv2d": "logits",
    "aten::conv3d": "logits",
}


class TorchScript(OnTorch):
    """A TorchScript program.

    Parameters
    ----------
    path : Path
        The file.
    output : str
        Which of several outputs counts.

    Raises
    ------
    ModelError
        It is damaged, or opens files.
    """

    def __init__(self, path: Path, output: str = "") -> None:
        content = _checked(path)
        self._file, self._output = path.name, output
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that torch prefers torch.export is not for our users
                self._program: Any = torch.jit.load(io.BytesIO(content), map_location="cpu").eval()
                end = _end_of(self._program)
        except Exception as error:  # a damaged file makes the reader fail in any way
            raise ModelError(
                f"{path} is damaged or not a TorchScript file.", "Copy it again, or export it again."
            ) from error
        self._device = torch.device("cpu")
        weights = list(self._program.parameters())
        self.first_inputs = next((int(weight.shape[1]) for weight in weights if weight.ndim in (4, 5)), None)
        """Channels of the first convolution, most likely those of the image."""
        self._dtype = next((each.dtype for each in weights if each.is_floating_point()), torch.float32)
        self.facts = Facts(
            dimensions=next((each.ndim - 2 for each in weights if each.ndim in (4, 5)), None),
            channels_last=False,  # the convention of all of torch's convolutions
            output=end,
            parameters=sum(weight.numel() for weight in weights),
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Return what the network answers, see `Engine`."""
        if images.device != self._device:
            self._program, self._device = self._program.to(images.device), images.device
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pick(self._program(images.to(self._dtype)), self._output, self._file).float()


def _checked(path: Path) -> bytes:
    """Return a program that neither opens files nor calls what torch does not bring.

    Raises
    ------
    ModelError
        It does, or it is damaged.
    """
    try:
        content = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            if len({name.casefold() for name in names}) < len(names):  # torch could read the other one
                raise ValueError("two parts have one name")
            code = [archive.read(name).decode() for name in names if name.casefold().endswith(".py")]
    except Exception as error:  # a damaged file makes the reader fail in any way
        raise ModelError(
            f"{path} is damaged or not a TorchScript file.", "Copy it again, or export it again."
        ) from error
    for text in code:
        what = _strange(text)
        if what:
            raise ModelError(
                f"{path} calls {what}, which could do more than compute: it was not opened.",
                "Export the network again without it.",
            )
    return content


def _strange(code: str) -> str:
    """Return what code names that may open files, or that torch does not bring; "" if there is nothing."""
    found = _OPENS_FILES.search(code)
    if found:
        return re.sub(_GAP, "", found.group())
    strange = set(_NAMESPACE.findall(code)) - _KNOWN
    if strange:
        return f"ops.{min(strange)}"
    while by_name := _BY_NAME.search(code):  # the innermost first
        if re.fullmatch(_FORBIDDEN, by_name["name"]):
            return f'getattr of "{by_name["name"]}"'
        code = f"{code[: by_name.start()]}{by_name['of']}{code[by_name.end() :]}"
    return "getattr of a name that is put together" if re.search(r"\bgetattr\b", code) else ""


def _end_of(program: Any) -> Output | None:
    """Return what the last operation makes of the numbers, where that is known."""
    try:
        # Frozen, what a program decides by its own attributes is decided.
        outputs = list(torch.jit.freeze(program, optimize_numerics=False).graph.outputs())
    except RuntimeError:
        return None
    return _ENDS.get(outputs[0].node().kind()) if len(outputs) == 1 else None
