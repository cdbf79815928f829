"""Batch normalisation over a batch that several processes share: on a CPU, where torch has none.

torch.nn.SyncBatchNorm only works on GPUs; the arithmetic is the same (Ioffe & Szegedy 2015, arXiv 1502.03167,
with the statistics of all processes).
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm


class _Statistics(NamedTuple):
    """Mean and (biased) variance of every channel over all processes, and over how many pixels."""

    mean_C: Tensor
    variance_C: Tensor
    pixels: float


class SyncNorm(_BatchNorm):
    """Batch normalisation that counts its statistics over the patches of all processes.

    Parameters
    ----------
    like : BatchNorm2d or BatchNorm3d
        Whose weights and statistics it shares: what changes here changes there.
    """

    def __init__(self, like: _BatchNorm) -> None:
        super().__init__(like.num_features, like.eps, like.momentum, like.affine, like.track_running_stats)
        self.weight, self.bias = like.weight, like.bias
        self.running_mean, self.running_var = like.running_mean, like.running_var
        self.num_batches_tracked = like.num_batches_tracked
        self.training = like.training

    def forward(self, image: Tensor) -> Tensor:
        """Normalise `(B, C, …)`; in evaluation mode by what was counted before, without other processes."""
        if not self.training:
            return super().forward(image)
        found = _shared_statistics(image.detach())
        self._follow(found)
        normalised: Tensor = _Normalise.apply(image, self.weight, self.bias, found, self.eps)
        return normalised

    @torch.no_grad()
    def _follow(self, found: _Statistics) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        weight = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(found.mean_C, weight)
        self.running_var.lerp_(found.variance_C * (found.pixels / max(found.pixels - 1, 1)), weight)

    def _check_input_dim(self, input: Tensor) -> None:  # what _BatchNorm.forward asks of its children
        assert input.ndim > 2


class _Normalise(torch.autograd.Function):
    """The arithmetic, with torch's own kernels for what one process can do alone."""

    @staticmethod
    def forward(
        ctx: Any, image: Tensor, weight_C: Tensor, bias_C: Tensor, found: _Statistics, eps: float
    ) -> Tensor:
        ctx.save_for_backward(image, weight_C)
        ctx.found, ctx.eps = found, eps
        return functional.batch_norm(
            image, found.mean_C, found.variance_C, weight_C, bias_C, training=False, eps=eps
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        image, weight_C = ctx.saved_tensors
        mean_C, variance_C, pixels = ctx.found
        empty = torch.empty(0)
        # As if the statistics did not depend on the image …
        direct, weight_gradient_C, bias_gradient_C = torch.ops.aten.native_batch_norm_backward(
            gradients[0],
            image,
            weight_C,
            mean_C,
            variance_C,
            empty,
            empty,
            False,
            ctx.eps,
            [True, True, True],
        )
        # … and what they take away again, in which all processes have a share.
        sums_2C = torch.stack([weight_gradient_C, bias_gradient_C])
        distributed.all_reduce(sums_2C)
        inverse_C = (variance_C + ctx.eps).rsqrt()
        slope_C = weight_C * inverse_C * inverse_C * sums_2C[0] / pixels
        level_C = weight_C * inverse_C * sums_2C[1] / pixels - slope_C * mean_C
        each = (1, -1, *[1] * (image.ndim - 2))
        direct.sub_(level_C.view(each).to(direct.dtype)).addcmul_(
            image.to(direct.dtype), slope_C.view(each).to(direct.dtype), value=-1
        )
        return direct, weight_gradient_C, bias_gradient_C, None, None


def _shared_statistics(image: Tensor) -> _Statistics:
    """Count the statistics over the images of all processes."""
    own_pixels = image.numel() // image.shape[1]
    variance_C, mean_C = torch.var_mean(
        image.float(), [axis for axis in range(image.ndim) if axis != 1], correction=0
    )
    own = torch.cat([mean_C, variance_C, mean_C.new_tensor([own_pixels])])
    parts = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, own)
    # In float64 and with the mean taken off first: sums of squares would cancel.
    all_RN = torch.stack(parts).double()
    mean_RC, variance_RC, pixels_R = all_RN[:, : len(mean_C)], all_RN[:, len(mean_C) : -1], all_RN[:, -1:]
    share_R = pixels_R / pixels_R.sum()
    total_C = (share_R * mean_RC).sum(0)
    spread_C = (share_R * (variance_RC + (mean_RC - total_C) ** 2)).sum(0)
    return _Statistics(total_C.float(), spread_C.float(), float(pixels_R.sum()))


def shared_view(network: nn.Module, device: torch.device) -> nn.Module:
    """Return a network with the same weights and statistics, whose batch normalisation is shared.

    The network itself stays as it is, so that whatever validates, averages or saves it need not know.

    Parameters
    ----------
    network : Module
        The network; the tensors of the view are its own.
    device : torch.device
        Where it computes: on a GPU torch's own SyncBatchNorm is taken.
    """
    own = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    view = deepcopy(network, memo=dict(own))
    for module in list(view.modules()):
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm):
                setattr(module, name, _shared(child, device))
    return view


def _shared(norm: _BatchNorm, device: torch.device) -> nn.Module:
    """Return what normalises over all processes in place of `norm`, and does what `norm` does afterwards."""
    gpu = device.type == "cuda"
    shared: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(norm) if gpu else SyncNorm(norm)
    # BatchNormAct2d of timm drops and activates in its own forward, which neither of the two has.
    after = [getattr(norm, part) for part in ("drop", "act") if hasattr(norm, part)]
    return nn.Sequential(shared, *after) if after else shared
