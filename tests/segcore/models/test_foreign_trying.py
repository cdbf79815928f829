"""What is tried of networks of other programs is what they are; what is said of them is checked."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from segcore.cli import main
from segcore.config import build_config
from segcore.errors import ConfigError, ModelError
from segcore.models.build import build_model
from segcore.models.foreign import keras_file, onnx_file
from segcore.models.foreign.engine import pick
from segcore.models.foreign.network import TOGETHER, Foreign, Manner, as_logits
from segcore.models.foreign.trying import Trial
from segcore.models.saved import find_model, load_model
from segcore.sidecar import GreyValues, made_elsewhere, read_sidecar
from segcore.training.teacher import is_model
from tests.foreign_models import make, script

CPU = torch.device("cpu")


class Blurs:
    """An engine that answers the mean of a square around every pixel, and what is left of the pixel."""

    def __init__(self, radius: int) -> None:
        self.radius = radius

    def __call__(self, images: Tensor) -> Tensor:
        """Return two maps."""
        side = 2 * self.radius + 1
        mean = nn.functional.avg_pool2d(images, side, 1, self.radius, count_include_pad=False)
        return torch.cat([mean, images - mean], 1)


def trial(network: object) -> Trial:
    return Trial(network, 1, 2, CPU)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("layers", "step", "radius"),
    [
        ([nn.Conv2d(1, 2, 3, padding=1)], 1, 1),
        ([nn.Conv2d(1, 2, 3, padding=4, dilation=4)], 1, 4),
        ([nn.AvgPool2d(2), nn.Conv2d(1, 2, 3, padding=1), nn.Upsample(scale_factor=2)], 2, 3),
        ([nn.MaxPool2d(8), nn.Conv2d(1, 2, 1), nn.Upsample(scale_factor=8)], 8, 7),
    ],
)
def test_step_and_reach_are_found(layers: list[nn.Module], step: int, radius: int) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        found, reach = trial(nn.Sequential(*layers)).step()
    assert found == step
    assert reach.is_local
    assert radius <= max(reach.radii) <= radius + step


def test_a_network_that_sees_all_is_not_called_local() -> None:
    with torch.no_grad():
        _, reach = trial(lambda image: image - image.mean((2, 3), keepdim=True)).step()
    assert not reach.is_local


def test_an_answer_that_is_smaller_than_the_image_is_refused() -> None:
    with pytest.raises(ModelError, match="it must answer one map per class, of the image's size"):
        trial(nn.Conv2d(1, 2, 3)).step()
    with pytest.raises(ModelError, match="no numbers"):
        trial(lambda image: image / 0).step()


@given(
    sizes=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    window=st.tuples(st.integers(8, 70), st.integers(8, 70)),
    radius=st.integers(0, 3),
)
def test_windows_that_overlap_by_what_a_network_sees_answer_as_one_of_any_size(
    sizes: tuple[int, int], window: tuple[int, int], radius: int
) -> None:
    """Where the image is smaller than a window it is filled up, which a mean at its border sees."""
    engine = Blurs(radius)
    manner = Manner(1, 2, 2, channels_last=False, output="logits", window=window, overlap=(radius, radius))
    network = Foreign(engine, manner)
    image = torch.randn(2, 1, *sizes, generator=torch.Generator().manual_seed(sum(sizes)))
    found, expected = network(image), engine(image)
    assert found.shape == expected.shape
    inner = [
        size if size >= side else max(0, size - radius) for size, side in zip(sizes, window, strict=True)
    ]
    part = (..., slice(inner[0]), slice(inner[1]))
    assert torch.allclose(found[part], expected[part], atol=1e-5)


def test_many_small_images_are_not_filled_up_to_windows_all_at_once() -> None:
    """What the network needs for windows is bounded, and does not grow with the images of a batch."""
    seen = []

    def engine(images: Tensor) -> Tensor:
        seen.append(images.shape[0] * images.shape[2] * images.shape[3])
        return images.repeat(1, 2, 1, 1)

    manner = Manner(1, 2, 2, channels_last=False, output="logits", window=(256, 256), overlap=(64, 64))
    image = torch.randn(11, 1, 9, 7)
    assert torch.equal(Foreign(engine, manner)(image)[:, 1:], image)  # type: ignore[arg-type]
    assert sum(seen) == 11 * 256**2
    assert max(seen) <= TOGETHER


def test_weights_that_are_named_as_inputs_are_no_image(tmp_path: Path) -> None:
    """Files of the third version of the format name them there, some of them before the image."""
    onnx = pytest.importorskip("onnx")
    path = make(tmp_path, "onnx", 1, 2).path
    image = torch.randn(1, 1, 32, 32)
    expected = onnx_file.Onnx(path).peak_bytes(image)
    model = onnx.load(str(path))
    weights = [
        onnx.helper.make_tensor_value_info(each.name, each.data_type, list(each.dims))
        for each in model.graph.initializer
    ]
    inputs = [*weights, *model.graph.input]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    onnx.save(model, str(path))
    assert onnx_file.Onnx(path).peak_bytes(image) == expected
    assert expected is not None


def test_batches_of_one_size_are_filled_up() -> None:
    seen = []

    def engine(images: Tensor) -> Tensor:
        seen.append(len(images))
        return images.repeat(1, 2, 1, 1)

    manner = Manner(1, 2, 2, channels_last=False, output="logits", batch=4, steps=(1, 1), halo=(0, 0))
    image = torch.randn(6, 1, 5, 7)
    assert torch.equal(Foreign(engine, manner)(image)[:, 1:], image)  # type: ignore[arg-type]
    assert seen == [4, 4]


@pytest.mark.parametrize("maps", [1, 3])
def test_logits_mean_what_the_network_answers(maps: int) -> None:
    raw = torch.randn(2, maps, 4, 5)
    both = torch.cat([torch.zeros_like(raw), raw], 1) if maps == 1 else raw
    assert torch.allclose(as_logits(raw, "logits").softmax(1), both.softmax(1))
    shares = raw.sigmoid() if maps == 1 else raw.softmax(1)
    assert torch.allclose(as_logits(shares, "probabilities").softmax(1), both.softmax(1), atol=1e-6)
    several = as_logits(raw.sigmoid(), "sigmoid").softmax(1)
    assert torch.allclose(several.sum(1), torch.ones(2, 4, 5))


def test_of_several_outputs_one_must_be_named() -> None:
    maps = {"out": torch.zeros(1), "aux": torch.ones(1)}
    assert pick(maps, "aux", "net.pt") is maps["aux"]
    assert pick((maps["out"],), "", "net.pt") is maps["out"]
    with pytest.raises(ModelError, match="has 2 outputs") as error:
        pick(maps, "", "net.pt")
    assert "out, aux" in error.value.remedy


# Descriptions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"class_values": [3, 1]}, "ascending"),
        ({"class_values": [1, 2, 3]}, "one per name"),
        ({"mode": "2.5d"}, "odd and at least 3"),
        ({"context_slices": 3, "mode": "2d"}, "belongs to the mode 2.5d"),
        ({"normalization": {"kind": "fixed", "scale": 0}}, "scale must not be 0"),
        ({"normalization": {"kind": "none", "range": [0, 1]}}, "range belongs to"),
        ({"normalization": {"kind": "median"}}, "kind"),
        ({"size_step": 0}, "size_step"),
    ],
)
def test_a_description_that_cannot_be_is_told(tmp_path: Path, change: dict[str, object], words: str) -> None:
    content = {"normalization": {"kind": "none"}, "class_names": ["a", "b"]} | change
    (tmp_path / "net.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=words) as error:
        read_sidecar(tmp_path / "net.json")
    assert error.value.remedy


def test_grey_values_have_one_number_or_one_per_channel() -> None:
    found = GreyValues(kind="fixed", offset=(1.0, 2.0), scale=(4.0, 8.0)).for_channels(2)
    assert (found.offset, found.scale, found.per, found.clip) == ((1.0, 2.0), (4.0, 8.0), "set", None)
    assert GreyValues(kind="percentile").for_channels(3).per == "image"
    assert GreyValues(kind="min-max", range=(0, 1)).stretch == (0.5, 0.5)
    with pytest.raises(ConfigError, match="2 offsets"):
        GreyValues(kind="fixed", offset=(1.0, 2.0)).for_channels(3)


def test_describing_tells_what_is_not_part_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.pt").write_bytes(b"PK damaged")
    assert main(["describe", str(tmp_path / "net.pt"), "--set", "colour=red"]) == 1
    assert "colour is not part of a description" in capsys.readouterr().err
    assert main(["describe", str(tmp_path / "net.pt"), "--set", "output"]) == 2
    assert main(["describe", str(tmp_path / "net.pt")]) == 1
    assert "damaged" in capsys.readouterr().err
    assert not (tmp_path / "net.json").exists()


def test_plain_weights_stay_ours_whatever_their_name(tmp_path: Path) -> None:
    config = build_config({"model": {"features": 4, "layers": 2}})
    torch.save(build_model(config.model, 1, 2).state_dict(), tmp_path / "net.pt")
    assert not made_elsewhere(tmp_path / "net.pt")
    with pytest.raises(ModelError, match="has no configuration"):
        find_model(tmp_path / "net.pt")
    script(nn.ReLU(), tmp_path / "other.pt")
    assert made_elsewhere(tmp_path / "other.pt")
    assert is_model(str(tmp_path / "other.pt"))


def test_what_only_a_person_knows_is_asked_for(tmp_path: Path) -> None:
    """A network without weights has no axes, channels or activation that its file could tell."""
    path = tmp_path / "net.pt"
    script(nn.Sequential(nn.Upsample(scale_factor=1.0), nn.ReLU()), path)
    said = {"normalization": {"kind": "none"}, "class_names": ["a", "b"]}
    path.with_suffix(".json").write_text(json.dumps(said))
    with pytest.raises(ModelError, match="says: mode, channels, output") as error:
        load_model(*find_model(path))
    assert "Give output: logits, probabilities or sigmoid" in error.value.remedy
    path.with_suffix(".json").write_text(json.dumps(said | {"mode": "2d", "channels": 2, "output": "logits"}))
    network = load_model(*find_model(path)).network
    image = torch.randn(1, 2, 9, 11)
    assert torch.equal(network(image), image.relu())


@pytest.mark.parametrize(
    ("module", "name", "ask"), [(onnx_file, "onnx", "require_onnx"), (keras_file, "keras", "require_keras")]
)
def test_a_package_that_is_missing_is_named(
    module: ModuleType, name: str, ask: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="is not installed") as error:
        getattr(module, ask)()
    assert f"segcore-studio[{name}]" in error.value.remedy
