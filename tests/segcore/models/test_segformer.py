"""SegFormer: the sizes of the paper, any size of image, weights as transformers writes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from networks import (
    check_any_size,
    check_comes_back,
    check_half_precision,
    check_learns,
    check_memory,
    check_stages,
)

from segcore.errors import ConfigError, ModelError
from segcore.models import segformer
from segcore.models.segformer import SegFormer, build_segformer


@pytest.fixture(autouse=True)
def _same_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def pretrained(tmp_path: Path) -> tuple[Path, SegFormer]:
    """Write a network of 3 channels and 7 classes as transformers does."""
    network = build_segformer(3, 7)
    network.network.save_pretrained(tmp_path / "b0")  # type: ignore[operator]
    return tmp_path / "b0", network


@pytest.mark.parametrize(("size", "millions"), [("b0", 3.7), ("b1", 13.7), ("b2", 27.3)])
def test_the_sizes_are_those_of_the_paper(size: str, millions: float) -> None:
    network = build_segformer(3, 19, size)
    assert round(sum(weight.numel() for weight in network.parameters()) / 1e6, 1) == pytest.approx(
        millions, abs=0.1
    )


def test_it_takes_any_size_learns_and_says_what_it_needs() -> None:
    network = build_segformer(2, 3)
    check_any_size(network, (33, 70))
    check_stages(network)
    check_memory(network, (256, 256))
    check_half_precision(network, (64, 64))
    check_learns(network, (64, 64), 20, 1e-3)


@pytest.mark.parametrize("channels", [1, 5])
def test_it_comes_back_from_a_file(channels: int, tmp_path: Path) -> None:
    check_comes_back(lambda: build_segformer(channels, 2), tmp_path / "weights.pth", (64, 64))


@pytest.mark.parametrize("channels", [1, 3])
def test_weights_are_taken_and_adapted(channels: int, pretrained: tuple[Path, SegFormer]) -> None:
    folder, origin = pretrained
    named = folder if channels == 1 else folder / "model.safetensors"
    network = build_segformer(channels, 2, pretrained=str(named))
    taken = network.transferred
    assert taken is not None
    assert len(taken.adapted) == (channels != 3)
    assert [name for name in taken.missing if "classifier" not in name] == []
    colours = torch.randn(1, 1, 64, 64).expand(1, 3, 64, 64)
    with torch.inference_mode():
        deep = [
            part.network.segformer.eval()(image, output_hidden_states=True).last_hidden_state
            for part, image in ((origin, colours), (network, colours[:, :channels]))
        ]
    torch.testing.assert_close(*deep, atol=1e-4, rtol=1e-4)


def test_weights_of_another_size_are_refused(pretrained: tuple[Path, SegFormer]) -> None:
    with pytest.raises(ModelError):
        build_segformer(3, 2, "b1", str(pretrained[0]))


def test_what_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="switched off"):
        build_segformer(1, 2, pretrained="nvidia/mit-b0")
    with pytest.raises(ModelError, match="no weights"):
        build_segformer(1, 2, pretrained="missing.pth")
    with pytest.raises(ConfigError, match="b5"):
        build_segformer(1, 2, "b9")


def test_weights_and_configuration_of_the_hub_are_of_one_commit(
    pretrained: tuple[Path, SegFormer], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = pretrained  # named as the commit, like the folders of the hub's cache
    asked: list[str | None] = []

    def fetch(repository: str, names: list[str], revision: str | None = None) -> Path:
        asked.append(revision)
        return folder / names[0]

    monkeypatch.setattr(segformer, "fetch", fetch)
    assert build_segformer(3, 2, pretrained="nvidia/mit-b0@main").transferred
    assert asked == ["main", folder.name]


def test_a_configuration_cannot_ask_for_code_of_elsewhere(pretrained: tuple[Path, SegFormer]) -> None:
    path = pretrained[0] / "config.json"
    asking = {"attn_implementation": "nobody/kernel", "_attn_implementation": "nobody/kernel"}
    path.write_text(json.dumps({**json.loads(path.read_text()), **asking}))
    assert build_segformer(3, 2, pretrained=str(pretrained[0])).transferred
