"""Model files: what is written comes back; what is not ours, or not safe, is refused in plain words."""

from __future__ import annotations

import errno
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from segcore.card import ModelCard, Normalization, write_config
from segcore.config import RunConfig, build_config
from segcore.errors import ConfigError, JobError, ModelError
from segcore.models.saved import find_model, load_model, save_weights
from segcore.models.unet import UNet


def _card(channels: int = 1, classes: int = 2) -> ModelCard:
    return ModelCard(
        channels=channels,
        class_values=tuple(range(classes)),
        class_names=tuple(f"class {index}" for index in range(classes)),
        normalization=Normalization(kind="none", offset=(0.0,) * channels, scale=(1.0,) * channels),
        axes="ZYX",
        dtype="uint8",
    )


def _config(features: int = 4, layers: int = 2) -> RunConfig:
    return build_config({"model": {"features": features, "layers": layers}})


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_weights(UNet(1, 2, 4, 2), tmp_path / "best_model.pth")
    write_config(tmp_path / "config.json", _config(), _card())
    return tmp_path


def _load(folder: Path) -> Any:
    return load_model(*find_model(folder))


def _refused(folder: Path, content: Any) -> ModelError:
    """Put `content` in place of the weights and return the error."""
    path = folder / "best_model.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ModelError) as caught:
        _load(folder)
    assert caught.value.remedy
    return caught.value


def test_weights_come_back_as_they_were(run_folder: Path) -> None:
    torch.manual_seed(0)
    original = UNet(1, 2, 4, 2).eval()
    model = _load(run_folder)
    image = torch.randn(1, 1, 20, 20)
    assert not model.network.training
    assert torch.equal(model.network(image), original(image))
    assert (model.card, model.config) == (_card(), _config())


def test_the_file_is_a_plain_state_dict(tmp_path: Path) -> None:
    network = UNet(1, 2, 4, 2).half().to(memory_format=torch.channels_last)
    save_weights(network, tmp_path / "model.pth")
    state = torch.load(tmp_path / "model.pth", weights_only=True)
    assert set(state) == set(network.state_dict())
    floats = [value for value in state.values() if value.is_floating_point()]
    assert all(value.dtype is torch.float32 and value.is_contiguous() for value in floats)


def test_equal_weights_make_equal_files(tmp_path: Path) -> None:
    network = UNet(1, 2, 4, 2)
    for name in ("a.pth", "b.pth"):
        save_weights(network, tmp_path / name)
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "b.pth").read_bytes()


def test_a_full_disk_leaves_the_old_file(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (run_folder / "best_model.pth").read_bytes()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(JobError, match="No space left"):
        save_weights(UNet(1, 2, 4, 2), run_folder / "best_model.pth")
    assert (run_folder / "best_model.pth").read_bytes() == before
    assert sorted(path.name for path in run_folder.iterdir()) == ["best_model.pth", "config.json"]


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [None, 2, 4])
def test_code_in_a_pickle_is_refused_and_not_run(
    run_folder: Path, tmp_path: Path, protocol: int | None
) -> None:
    trap = tmp_path / "trap"
    bomb = {"head.weight": _Bomb(trap)}
    error = _refused(run_folder, pickle.dumps(bomb, protocol) if protocol else bomb)
    assert "could run code" in error.message
    assert not trap.exists()


def test_a_whole_pickled_network_is_refused(run_folder: Path) -> None:
    assert "could run code" in _refused(run_folder, UNet(1, 2, 4, 2)).message


@pytest.mark.parametrize("keep", [2, 0.3, 0.9])
def test_a_truncated_file_is_told_as_such(run_folder: Path, keep: float) -> None:
    content = (run_folder / "best_model.pth").read_bytes()
    part = content[: int(keep if keep > 1 else keep * len(content))]
    assert "cut off" in _refused(run_folder, part).message


@pytest.mark.parametrize("content", [b"", b"Please find attached", b"\x89PNG\r\n", b"{}"])
def test_what_is_no_model_file_is_told_as_such(run_folder: Path, content: bytes) -> None:
    assert "is not a model file" in _refused(run_folder, content).message


def test_a_damaged_file_is_told_as_such(run_folder: Path) -> None:
    assert "best_model.pth" in _refused(run_folder, b"\x80\x02garbage").message


def test_a_zip_of_something_else_is_told_as_such(run_folder: Path) -> None:
    with zipfile.ZipFile(run_folder / "best_model.pth", "w") as archive:
        archive.writestr("letter.txt", "hello")
    with pytest.raises(ModelError, match="not a model file"):
        _load(run_folder)


def test_a_checkpoint_is_told_from_a_model(run_folder: Path) -> None:
    state = UNet(1, 2, 4, 2).state_dict()
    error = _refused(run_folder, {"network": state, "optimizer": {"state": {}}, "epoch": 3})
    assert "checkpoint" in error.message
    assert "best_model.pth" in error.remedy


@pytest.mark.parametrize("content", [torch.zeros(3), [1, 2], {}, {"a": 1}])
def test_what_is_no_state_dict_is_told_as_such(run_folder: Path, content: Any) -> None:
    assert "not the weights of a network" in _refused(run_folder, content).message


def test_weights_that_are_not_numbers_are_refused(run_folder: Path) -> None:
    state = UNet(1, 2, 4, 2).state_dict()
    state["head.bias"][0] = float("nan")
    assert "head.bias" in _refused(run_folder, state).message


@pytest.mark.parametrize(
    ("config", "card", "difference"),
    [
        (_config(features=8), _card(), "features 4 in the file, 8 in the configuration"),
        (_config(layers=3), _card(), "layers 2 in the file, 3 in the configuration"),
        (_config(), _card(classes=4), "classes 2 in the file, 4 in the configuration"),
        (_config(), _card(channels=3), "channels 1 in the file, 3 in the configuration"),
    ],
)
def test_a_configuration_of_another_model_is_named_in_the_users_words(
    run_folder: Path, config: RunConfig, card: ModelCard, difference: str
) -> None:
    write_config(run_folder / "config.json", config, card)
    with pytest.raises(ModelError, match="does not belong to this configuration") as caught:
        _load(run_folder)
    assert difference in caught.value.message


def test_a_foreign_network_and_missing_arrays_are_refused(run_folder: Path) -> None:
    assert "not a U-Net" in _refused(run_folder, torch.nn.Linear(2, 2).state_dict()).message
    state = UNet(1, 2, 4, 2).state_dict()
    del state["bottom.0.weight"]
    assert "bottom.0.weight" in _refused(run_folder, state).message


def test_a_family_without_sizes_is_named_without_brackets(run_folder: Path) -> None:
    write_config(run_folder / "config.json", build_config({"model": {"family": "fc-densenet-56"}}), _card())
    message = _refused(run_folder, torch.nn.Linear(2, 2).state_dict()).message
    assert "it is not a FC-DenseNet 56 of this program" in message


def test_a_configuration_without_a_model_is_refused(run_folder: Path) -> None:
    write_config(run_folder / "config.json", _config())
    with pytest.raises(ModelError, match="does not describe a trained model"):
        _load(run_folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [("class_values", [1, 0]), ("class_values", []), ("class_names", ["only one"]), ("channels", 3)],
)
def test_a_configuration_that_contradicts_itself_is_refused(run_folder: Path, field: str, value: Any) -> None:
    path = run_folder / "config.json"
    content = json.loads(path.read_text())
    content["trained"][field] = value
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"class_values must|normalization must"):
        _load(run_folder)


def test_a_model_is_found_by_folder_by_file_and_by_two_files(run_folder: Path, tmp_path: Path) -> None:
    weights, config = run_folder / "best_model.pth", run_folder / "config.json"
    assert find_model(run_folder) == find_model(str(weights)) == (weights, config)
    apart = tmp_path / "apart"
    apart.mkdir()
    moved = weights.rename(apart / "mine.pth")
    assert find_model(moved, config) == (moved, config)
    beside = config.rename(apart / "mine.json")
    assert find_model(moved) == (moved, beside)


def test_what_is_missing_is_named(run_folder: Path) -> None:
    with pytest.raises(ModelError, match="There is no model at"):
        find_model(run_folder / "nothing")
    (run_folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"config\.json is missing"):
        find_model(run_folder)
    (run_folder / "best_model.pth").unlink()
    with pytest.raises(ModelError, match="no training has finished an epoch"):
        find_model(run_folder)
