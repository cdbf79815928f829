"""Weights made elsewhere: found on disk or on the Hugging Face hub, and put into a network where they fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from segcore.addresses import split_hub_id
from segcore.errors import ModelError

FILES = ("model.safetensors", "pytorch_model.bin", "best_model.pth")
"""What a folder or a hub repository of weights is searched for, in this order."""
TIMEOUT = 10.0
"""Seconds that the hub has for an answer."""
LEAST_SHARE = 0.5
"""With less of a network's weights in the file, it is the file of another network."""
_WRAPPERS = ("module.", "model.", "network.", "encoder.", "backbone.")


@dataclass(frozen=True)
class Transfer:
    """What became of the weights of a file, by the names of the network (`unused`: of the file)."""

    taken: tuple[str, ...]
    adapted: tuple[str, ...]
    """Taken with another number of input channels."""
    replaced: tuple[str, ...]
    """Of another shape in the file, so left as they were: the classifier of other classes, mostly."""
    missing: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"{len(self.taken)} arrays taken"]
        for number, text in (
            (len(self.adapted), "adapted to the channels"),
            (len(self.replaced), "of another shape, left fresh"),
            (len(self.missing), "not in the file, left fresh"),
            (len(self.unused), "of the file not needed"),
        ):
            parts += [f"{number} {text}"] if number else []
        return ", ".join(parts)


def find_weights(reference: str) -> Path:
    """Return the file of weights that a path or a hub id (`owner/name`, `owner/name@revision`) names.

    From the hub only what is not in its cache is fetched; nothing where `HF_HUB_OFFLINE` is set.

    Raises
    ------
    ModelError
        There is no such file, or the hub does not answer or does not have it.
    """
    path = Path(reference).expanduser()
    if path.is_dir():
        found = next((path / name for name in FILES if (path / name).is_file()), None)
        if found is None:
            raise ModelError(f"{path} holds no weights: {', '.join(FILES)} are missing.", "Name the file.")
        return found
    if path.is_file():
        return path
    named = hub_id(reference)
    if named is None:
        raise ModelError(
            f"There are no weights at {path}.",
            "Give a file (.safetensors, .pth), its folder, or an id of the Hugging Face hub (owner/name).",
        )
    return fetch(named[0], FILES[:2], named[1])


def hub_id(reference: str) -> tuple[str, str | None] | None:
    """Return repository and revision if `reference` is an id of the hub, and not a path here; else None."""
    return None if Path(reference).expanduser().exists() else split_hub_id(reference)


def fetch(repository: str, names: Sequence[str], revision: str | None = None) -> Path:
    """Return the first of `names` in a repository of the hub: from the cache, else fetched.

    Raises
    ------
    ModelError
        It has none of them, it does not exist, or the hub cannot be reached.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError

    for name in names:
        try:
            return Path(hf_hub_download(repository, name, revision=revision, local_files_only=True))
        except (LocalEntryNotFoundError, ValueError):
            continue
    reason = "" if _answers() else f"the hub did not answer within {TIMEOUT:.0f} s"
    if constants.HF_HUB_OFFLINE:
        reason = "the hub is switched off here (HF_HUB_OFFLINE)"
    # hf_xet waits for ever for a server that falls silent; plain HTTP gives up after HF_HUB_DOWNLOAD_TIMEOUT.
    constants.HF_HUB_DISABLE_XET = True
    for name in [] if reason else names:
        try:
            return Path(hf_hub_download(repository, name, revision=revision, etag_timeout=TIMEOUT))
        except LocalEntryNotFoundError:  # of the not found: the hub did not answer
            reason = f"the hub did not answer within {TIMEOUT:.0f} s"
            break
        except EntryNotFoundError:
            reason = f"it holds none of {', '.join(names)}"
        except RepositoryNotFoundError:
            reason = "the hub has no such repository, or it is not public"
            break
        except Exception as error:  # whatever a network, a proxy or a disk can do
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            break
    raise ModelError(
        f"The weights {repository} are not on this machine, and {reason}.",
        "Download them where there is a network, copy the file here and give its path; or train without "
        "pretrained weights.",
    )


def _answers() -> bool:
    """Say whether the hub can be reached: asked once, where its own client would try for minutes."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=TIMEOUT)
    except Exception:  # whatever a network or a proxy can do
        return False
    return True


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file or a state dict, in main memory, float32; nothing in it is executed.

    A published checkpoint may hold the state dict under `state_dict` or `model`, beside other things.

    Raises
    ------
    ModelError
        The file is damaged, unsafe, or holds no finite weights.
    """
    from segcore.models.saved import checked_state, read_weights  # which itself needs the networks

    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return checked_state(load_file(path), path)
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"{path} is damaged or no safetensors file.", "Copy or download the file again."
            ) from error
    return read_weights(path, inside=("state_dict", "model"))


def adapt_channels(weight: Tensor, channels: int) -> Tensor:
    """Return the weights of a first convolution for another number of channels.

    For one channel the kernels are summed: the answer to a grey image is what it was to the same image as
    colours. For others they are repeated in turn and scaled by given/wanted: the answer keeps its size.
    That is the rule of timm and segmentation-models-pytorch.

    Parameters
    ----------
    weight : Tensor
        `O I Y X`.
    channels : int
        Channels wanted.
    """
    given = weight.shape[1]
    if channels == 1:
        return weight.sum(1, keepdim=True)
    return weight[:, torch.arange(channels) % given] * (given / channels)


def transfer(state: Mapping[str, Tensor], network: nn.Module, source: str) -> Transfer:
    """Put weights into a network, as far as name and shape agree; say what became of them.

    The first convolution may be of other channels, see `adapt_channels`. Names agree also where only what
    wraps the network differs (`module.`, `encoder.`, …) or how stages are counted (`stages.0`, `stages_0`).

    Parameters
    ----------
    state : mapping
        Weights by name.
    network : Module
        Is changed.
    source : str
        Where they come from, for the message.

    Raises
    ------
    ModelError
        Less than half of the network's weights are there: it is the file of another network.
    """
    wanted = {name: tensor for name, tensor in network.state_dict().items() if _counts(name)}
    given = {_canonical(name): name for name in state if _counts(name)}
    kernels = (name for name, tensor in wanted.items() if tensor.ndim == 4 and name.endswith("weight"))
    first = next(kernels, "")
    chosen: dict[str, Tensor] = {}
    adapted: list[str] = []
    replaced: list[str] = []
    missing: list[str] = []
    used: set[str] = set()
    for name, tensor in wanted.items():
        origin = name if name in state else given.get(_canonical(name))
        if origin is None:
            missing.append(name)
            continue
        used.add(origin)
        weight = state[origin]
        if weight.shape == tensor.shape:
            chosen[name] = weight
        elif name == first and _differs_in_channels(weight, tensor):
            chosen[name] = adapt_channels(weight, tensor.shape[1])
            adapted.append(name)
        else:
            replaced.append(name)
    if len(chosen) < LEAST_SHARE * len(wanted):
        raise ModelError(
            f"{source} holds the weights of another network: {len(chosen)} of {len(wanted)} arrays fit.",
            "Choose the encoder (the size) that the file was made for.",
        )
    network.load_state_dict(chosen, strict=False)
    unused = [name for name in given.values() if name not in used]
    return Transfer(tuple(chosen), tuple(adapted), tuple(replaced), tuple(missing), tuple(unused))


def _counts(name: str) -> bool:
    return not name.endswith("num_batches_tracked")


def _differs_in_channels(weight: Tensor, tensor: Tensor) -> bool:
    return (weight.shape[0], *weight.shape[2:]) == (tensor.shape[0], *tensor.shape[2:])


def _canonical(name: str) -> str:
    while wrapper := next((text for text in _WRAPPERS if name.startswith(text)), ""):
        name = name[len(wrapper) :]
    return name.replace("_", ".")
