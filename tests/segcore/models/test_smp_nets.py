"""Networks of segmentation-models-pytorch: any encoder, size and number of channels; weights of elsewhere."""

from __future__ import annotations

import math
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
from safetensors.torch import save_file

from segcore.card import ModelCard, Normalization
from segcore.devices import Hardware
from segcore.errors import ModelError
from segcore.families import ENCODERS
from segcore.models.encoder_weights import transfer
from segcore.models.measured import peak_bytes_per_pixel
from segcore.models.segformer import build_segformer
from segcore.models.smp_nets import ARCHITECTURES, SmpNet, build_smp, encoder_name
from segcore.predictor import Predictor

SMALL = "tu-lcnet_050"
PLAIN = [name for name in ARCHITECTURES if name != "dpt"]


def _small(architecture: str = "unet", channels: int = 1, encoder: str = SMALL) -> SmpNet:
    torch.manual_seed(0)
    return build_smp(channels, 2, architecture, encoder)


@pytest.mark.parametrize("architecture", PLAIN)
def test_every_architecture_takes_any_size_and_has_its_weights_in_stages(architecture: str) -> None:
    network = _small(architecture, 2)
    check_any_size(network, (45, 70))
    check_stages(network)
    assert network.stages()[0][0].startswith("encoder ")


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_it_takes_any_number_of_channels(channels: int, tmp_path: Path) -> None:
    check_comes_back(lambda: _small(channels=channels), tmp_path / "weights.pth", (64, 64))


@pytest.mark.parametrize("architecture", ["unet", "deeplabv3plus"])
def test_two_images_are_learned_by_heart(architecture: str) -> None:
    check_learns(_small(architecture), (64, 64), 25, 1e-2)


@pytest.mark.parametrize("architecture", ["unet", "fpn", "segformer"])
def test_memory_is_enough_and_half_precision_about_the_same(architecture: str) -> None:
    network = _small(architecture)
    check_memory(network, (192, 192))
    check_half_precision(network, (64, 64))


@pytest.mark.parametrize("encoder", ["mit_b0", "convnext_atto", "swin_tiny_patch4_window7_224"])
def test_encoders_of_all_kinds_go_through_every_size(encoder: str) -> None:
    network = _small("unet", 1, encoder)
    check_any_size(network, (33, 64))
    check_stages(network)


def test_attention_between_all_pixels_gets_no_larger_images_than_it_was_measured_with() -> None:
    card = ModelCard(
        channels=1, class_values=(0, 1), class_names=("out", "in"), axes="YX", dtype="uint8",
        normalization=Normalization(kind="none", offset=(0.0,), scale=(1.0,)),
    )  # fmt: skip
    cpu = Hardware(torch.device("cpu"), torch.float32, channels_last=True)
    network = _small("unet", 1, "mit_b0")
    most = network.most_pixels()
    assert most == 1024**2
    assert peak_bytes_per_pixel(network, torch.float32, 2048) > 2 * peak_bytes_per_pixel(
        network, torch.float32, 1024
    )
    predictor = Predictor(network, card, cpu)
    assert len(predictor.tiles(3840, 3840)) > 1
    for tile in predictor.tiles(3840, 3840):
        assert math.prod(side.stop - side.start for side in tile.read) <= most
    assert build_segformer(1, 2).most_pixels() == most
    assert _small("unet").most_pixels() > 2**30


def test_one_image_is_enough_to_train_on_where_all_of_it_is_averaged() -> None:
    for architecture in ("deeplabv3plus", "pspnet", "upernet"):
        network = _small(architecture).train()
        network(torch.randn(1, 1, 64, 64)).sum().backward()
        assert all(weight.grad is not None for weight in network.parameters())


def test_a_shallow_encoder_is_not_saved_with_the_levels_it_does_not_use() -> None:
    shallow = build_smp(1, 2, "unet", "resnet18", depth=3)
    assert shallow.divisors == (8, 8)
    assert "network.encoder.layer2.0.conv1.weight" in shallow.state_dict()
    assert "network.encoder.layer3.0.conv1.weight" not in shallow.state_dict()
    check_stages(shallow)


@pytest.mark.parametrize("channels", [1, 4])
def test_weights_of_a_file_are_taken_and_adapted_to_the_channels(channels: int, tmp_path: Path) -> None:
    torch.manual_seed(1)
    colour = build_smp(3, 2, "unet", SMALL)
    weights = {name: tensor.clone() for name, tensor in colour.network.encoder.state_dict().items()}
    save_file(weights, tmp_path / "model.safetensors")
    network = build_smp(channels, 2, "unet", SMALL, pretrained=str(tmp_path))
    taken = network.transferred
    assert taken is not None
    assert len(taken.adapted) == 1
    assert not taken.missing
    assert not taken.replaced
    first, wanted = weights[taken.adapted[0]], dict(network.network.encoder.state_dict())[taken.adapted[0]]
    # The answer to a grey image is that to the same image in colours.
    assert channels != 1 or torch.allclose(wanted.sum(1), first.sum(1), atol=1e-6)
    assert torch.allclose(wanted[:, 0] * channels, first[:, 0] * 3 if channels > 1 else first.sum(1))
    same = [name for name in weights if name not in taken.adapted]
    assert all(torch.equal(network.network.encoder.state_dict()[name], weights[name]) for name in same)


def test_weights_of_another_encoder_are_refused(tmp_path: Path) -> None:
    save_file({"conv1.weight": torch.ones(8, 3, 3, 3)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="another network"):
        build_smp(1, 2, "unet", SMALL, pretrained=str(tmp_path / "other.safetensors"))


def test_weights_that_are_nowhere_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for reference in ("nobody/nothing", "imagenet"):
        with pytest.raises(ModelError, match="switched off"):
            build_smp(1, 2, "unet", SMALL, pretrained=reference)
    for reference in ("missing.pth", str(tmp_path / "missing")):
        with pytest.raises(ModelError, match="no weights at"):
            build_smp(1, 2, "unet", SMALL, pretrained=reference)
    with pytest.raises(ModelError, match="holds no weights"):
        build_smp(1, 2, "unet", SMALL, pretrained=str(tmp_path))


def test_a_hub_that_cannot_be_reached_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: list[str] = []

    class Silent:
        def head(self, url: str, **options: object) -> None:
            asked.append(url)
            raise OSError("nobody answers")

    def download(repository: str, name: str, *, local_files_only: bool = False, **options: object) -> str:
        if not local_files_only:
            asked.append(name)
        raise ValueError("not in the cache")

    monkeypatch.setattr(huggingface_hub, "get_session", Silent)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(ModelError, match="did not answer"):
        build_smp(1, 2, "unet", SMALL, pretrained="nobody/nothing")
    assert asked == [huggingface_hub.constants.ENDPOINT]


def test_an_unknown_encoder_is_refused_with_those_near_to_it() -> None:
    with pytest.raises(ModelError, match="resnet34"):
        encoder_name("resnet35")
    with pytest.raises(ModelError, match="cannot be the encoder"):
        build_smp(1, 2, "unet", "vit_tiny_patch16_224")
    assert encoder_name("convnext_atto") == encoder_name("tu-convnext_atto") == "tu-convnext_atto"


def test_a_vision_transformer_carries_dpt() -> None:
    network = _small("dpt", 1, "vit_tiny_patch16_224")
    check_any_size(network, (40, 70))
    check_stages(network)


def test_the_list_of_encoders_says_how_large_they_are() -> None:
    assert ENCODERS["resnet34"] == 21.3
    from segmentation_models_pytorch.encoders import encoders

    assert {name for name in encoders if not name.startswith("timm-")} <= set(ENCODERS)


def _weights_of(network: SmpNet) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.network.encoder.state_dict().items()}


def test_only_the_first_convolution_is_adapted() -> None:
    network = _small(channels=3)
    state = _weights_of(network)
    first, *others = [name for name, tensor in state.items() if tensor.ndim == 4 and tensor.shape[1] > 1]
    deeper = others[0]
    found = transfer({**state, deeper: state[deeper][:, 1:]}, network.network.encoder, "file")
    assert (found.adapted, found.replaced) == ((), (deeper,))
    found = transfer({**state, first: state[first][:, 1:]}, network.network.encoder, "file")
    assert (found.adapted, found.replaced) == ((first,), ())


def test_a_published_checkpoint_is_read_and_broken_numbers_are_refused(tmp_path: Path) -> None:
    state = _weights_of(_small(channels=3))
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "published.pth")
    found = build_smp(3, 2, "unet", SMALL, pretrained=str(tmp_path / "published.pth")).transferred
    assert found is not None
    assert not found.missing
    state[next(iter(state))].fill_(float("nan"))
    save_file(state, tmp_path / "broken.safetensors")
    with pytest.raises(ModelError, match="not numbers"):
        build_smp(3, 2, "unet", SMALL, pretrained=str(tmp_path / "broken.safetensors"))


def test_a_download_gives_up_where_nothing_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants
    from huggingface_hub.errors import LocalEntryNotFoundError

    from segcore.models import encoder_weights

    def download(repository: str, name: str, local_files_only: bool = False, **_: object) -> str:
        if local_files_only:
            raise LocalEntryNotFoundError(name)
        assert constants.HF_HUB_DISABLE_XET  # which has no time limit
        return str(tmp_path / name)

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr(encoder_weights, "_answers", lambda: True)
    assert encoder_weights.fetch("owner/name", ["weights.bin"]) == tmp_path / "weights.bin"


def test_an_encoder_that_fails_without_a_word_is_refused_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("segcore.models.smp_nets._tidied", fail)
    with pytest.raises(ModelError, match="encoder of Unet: AssertionError"):
        _small()


def test_nothing_is_dropped_at_random_in_training() -> None:
    network = _small(encoder="efficientnet-b0").train()
    image = torch.randn(2, 1, 64, 64)
    assert torch.equal(network(image), network(image))
