"""Team: the processes that train one network together, and what they tell each other.

Every process holds the whole network and the whole data, draws the random numbers of the whole batch, and
computes its share of the patches. What is counted over a batch (gradients, batch statistics, the sums of the
loss, pixels of classes) is added up over all processes, so that the training is that of one process. The
first process, the leader, alone decides, writes and speaks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from segcore.devices import Hardware
from segcore.training.place import Place

if TYPE_CHECKING:
    from lightning_fabric import Fabric

T = TypeVar("T")
PATIENCE = timedelta(minutes=15)
"""How long a process waits for the others: reading images and saving may take one of them long."""


class Team:
    """The processes that train one network together; here a single one, which needs nobody."""

    rank = 0
    size = 1

    @property
    def leads(self) -> bool:
        """Whether this process decides, writes and speaks."""
        return self.rank == 0

    def lead(self, value: Callable[[], T]) -> T:
        """Return, in all processes, what `value` gives in the leader; the others do not call it."""
        return value()

    def lead_numbers(self, value: Callable[[], Sequence[float]]) -> list[float]:
        """Return the leader's numbers in all processes: like `lead`, and fast enough for every step."""
        return list(value())

    def own(self, drawn: T, count: int) -> T:
        """Return the patches of a draw for a batch of `count` that this process computes, see `part_of`."""
        return drawn

    def add(self, part: Tensor) -> Tensor:
        """Add up a tensor over all processes, in place."""
        return part

    def total(self, part: Tensor) -> Tensor:
        """Return the sum over all processes of what a loss is made of; gradients go through it."""
        return part

    def view(self, network: nn.Module, device: torch.device) -> nn.Module:
        """Return the network with batch statistics over all processes; weights and statistics are its own."""
        return network

    def trained(self, view: nn.Module) -> nn.Module:
        """Return a view as it is to be trained: its gradients are those of the whole batch."""
        return view

    def exchanging(self, network: nn.Module, now: bool) -> AbstractContextManager[Any]:
        """Return the context of a backward pass; gradients are exchanged at its end if `now`."""
        return nullcontext()

    def hardware(self, hardware: Hardware) -> Hardware:
        """Return the hardware with the device of this process."""
        return hardware

    def describe(self, hardware: Hardware) -> str:
        """Say in a few words what computes."""
        return hardware.describe()

    def close(self) -> None:
        """Part from the others."""


class Ranks(Team):
    """Several processes, connected by Lightning Fabric: NCCL between GPUs, Gloo between CPUs.

    Parameters
    ----------
    place : Place
        This process.
    accelerator : {"cpu", "cuda"}, optional
        What computes; only the leader says it.

    Raises
    ------
    RuntimeError
        The others do not come.
    """

    def __init__(self, place: Place, accelerator: str | None = None) -> None:
        self.place, self.rank, self.size = place, place.rank, place.size
        self._fabric = _connect(place, accelerator)

    def lead(self, value: Callable[[], T]) -> T:
        """Return, in all processes, what `value` gives in the leader."""
        from torch import distributed

        parcel = [value() if self.leads else None]
        distributed.broadcast_object_list(parcel, src=0, device=torch.device("cpu"))
        return parcel[0]  # type: ignore[return-value]

    def lead_numbers(self, value: Callable[[], Sequence[float]]) -> list[float]:
        """Return the leader's numbers, two of them, in all processes."""
        from torch import distributed

        numbers = torch.tensor(list(value()) if self.leads else [0.0, 0.0], dtype=torch.float64)
        distributed.broadcast(numbers, src=0)
        return numbers.tolist()

    def own(self, drawn: T, count: int) -> T:
        """Return the patches of a draw that this process computes: as many as every other."""
        each = count // self.size
        return part_of(drawn, slice(self.rank * each, (self.rank + 1) * each))

    def add(self, part: Tensor) -> Tensor:
        """Add up a tensor over all processes, in place."""
        from torch import distributed

        distributed.all_reduce(part)
        return part

    def total(self, part: Tensor) -> Tensor:
        """Return the sum over all processes; gradients go through it."""
        total: Tensor = _Total.apply(part, self.size)
        return total

    def view(self, network: nn.Module, device: torch.device) -> nn.Module:
        """Return the network with batch statistics over all processes."""
        from segcore.training.sync_norm import shared_view

        return shared_view(network, device)

    def trained(self, view: nn.Module) -> nn.Module:
        """Return a view as Fabric trains it: gradients are averaged while they are computed."""
        module: nn.Module = self._fabric.setup_module(view, move_to_device=False)
        return module

    def exchanging(self, network: nn.Module, now: bool) -> AbstractContextManager[Any]:
        """Return the context of a backward pass: of all micro-batches only the last one exchanges."""
        return self._fabric.no_backward_sync(network, enabled=not now)  # type: ignore[arg-type]

    def hardware(self, hardware: Hardware) -> Hardware:
        """Return the hardware with the device of this process."""
        if hardware.device.type != "cuda":
            return hardware
        return replace(hardware, device=torch.device("cuda", self.place.local_rank))

    def describe(self, hardware: Hardware) -> str:
        """Say in a few words what computes."""
        return f"{self.size} × {hardware.describe()}"

    def close(self) -> None:
        """Part from the others."""
        from torch import distributed

        if distributed.is_initialized():
            distributed.destroy_process_group()


class _Total(torch.autograd.Function):
    """A sum over all processes from which every one of them computes the same loss.

    The gradients are averaged over the processes afterwards, but belong to parts of one sum: they are
    multiplied by the number of processes here.
    """

    @staticmethod
    def forward(ctx: Any, part: Tensor, size: int) -> Tensor:
        from torch import distributed

        ctx.size = size
        total = part.detach().clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.size, None


def part_of(drawn: T, part: slice) -> T:
    """Return some of the patches of a draw.

    Parameters
    ----------
    drawn : dataclass
        Its tensors have one entry per patch, its dictionaries are keyed by the number of the patch.
    part : slice
        Which patches.
    """
    changed: dict[str, Any] = {}
    for field in fields(drawn):  # type: ignore[arg-type]
        value = getattr(drawn, field.name)
        if isinstance(value, Tensor):
            changed[field.name] = value[part]
        elif isinstance(value, dict):
            start, stop = part.start, part.stop
            changed[field.name] = {key - start: entry for key, entry in value.items() if start <= key < stop}
    return replace(drawn, **changed)  # type: ignore[type-var]


def _connect(place: Place, accelerator: str | None) -> Fabric:
    """Meet the other processes; the leader says which accelerator they use."""
    from torch import distributed
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    os.environ.update(MASTER_ADDR=place.address, MASTER_PORT=str(place.port))
    meeting = rendezvous("env://", place.rank, place.size, timeout=PATIENCE)
    store = next(iter(meeting))[0]
    if accelerator is None:
        accelerator = store.get("accelerator").decode()
    else:
        store.set("accelerator", accelerator)
    # Numbers that decide travel between the CPUs: reading one from a GPU would make the host wait for it.
    backend = "cpu:gloo,cuda:nccl" if accelerator == "cuda" else "gloo"
    distributed.init_process_group(
        backend,
        store=PrefixStore("segcore", store),
        rank=place.rank,
        world_size=place.size,
        timeout=PATIENCE,
    )
    return _fabric(place, accelerator)


def _fabric(place: Place, accelerator: str) -> Fabric:
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
    from lightning_fabric.strategies.ddp import DDPStrategy

    class Given(ClusterEnvironment):
        """What `Place` says, whoever started the processes."""

        creates_processes_externally = True
        main_address, main_port = place.address, place.port

        @staticmethod
        def detect() -> bool:
            return True

        def world_size(self) -> int:
            return place.size

        def global_rank(self) -> int:
            return place.rank

        def local_rank(self) -> int:
            return place.local_rank

        def node_rank(self) -> int:
            return place.rank // place.local_size

        def set_world_size(self, size: int) -> None:
            """Leave it as it was given."""

        def set_global_rank(self, rank: int) -> None:
            """Leave it as it was given."""

    strategy = DDPStrategy(
        timeout=PATIENCE,
        cluster_environment=Given(),
        forward_sync_buffers=False,  # equal anyhow: all processes count the same statistics
        gradient_as_bucket_view=True,
    )
    fabric = Fabric(
        accelerator=accelerator,
        devices=place.local_size,
        num_nodes=place.size // place.local_size,
        strategy=strategy,
    )
    fabric.launch()
    return fabric
