"""The network computed by OpenVINO, an optional package that is faster on some processors.

See https://docs.openvino.ai, "Model preparation" and "Precision control".
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from copy import deepcopy
from importlib.util import find_spec
from types import MethodType
from typing import Any

import torch
from torch import Tensor

from segcore.errors import ConfigError
from segcore.models.segmenter import Segmenter, pad_behind

INSTALL = "pip install 'segcore-studio[openvino]'"


class OnOpenVino:
    """Applies what a network has learned, as `Folded` does; later changes of its weights are not seen.

    Parameters
    ----------
    network : Segmenter
        The trained network, on the CPU.
    dtype : torch.dtype
        Number format of the arithmetic: bfloat16 or float32.

    Raises
    ------
    ConfigError
        OpenVINO is not installed.
    """

    def __init__(self, network: Segmenter, dtype: torch.dtype) -> None:
        require_openvino()
        import openvino

        self._divisors = network.divisors
        aligned: Any = deepcopy(network).float().eval()
        aligned.forward = MethodType(type(network).aligned, aligned)
        # The size is open, so that tiles of every shape share what is compiled here once.
        size = [-1, network.channels, *[-1] * network.dimensions]
        example = torch.zeros(1, network.channels, *(2 * step for step in network.divisors))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on how OpenVINO reads it are not for our users
            model = openvino.convert_model(aligned, example_input=example, input=size)
        options = {
            "INFERENCE_PRECISION_HINT": "bf16" if dtype is torch.bfloat16 else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
        }
        self._request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()

    def __call__(self, images: Tensor, keep: Sequence[slice] | None = None) -> Tensor:
        """Return logits, see `Folded.__call__`; all are computed, whatever is kept."""
        sizes = images.shape[2:]
        ready = pad_behind(images.float(), self._divisors).contiguous()
        found = torch.from_numpy(self._request.infer({0: ready.numpy()})[0])
        return found[:, :, *(slice(size) for size in sizes)][:, :, *(keep or ())]


def require_openvino() -> None:
    """Raise if OpenVINO is not installed.

    Raises
    ------
    ConfigError
        It is not.
    """
    if find_spec("openvino") is None:
        raise ConfigError(
            "inference.backend is openvino, but OpenVINO is not installed.",
            f"Install it ({INSTALL}), or choose torch.",
        )
