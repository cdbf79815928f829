"""Files of other programs that could do more than compute: refused before anything in them runs."""

from __future__ import annotations

import io
import json
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segcore.errors import ModelError
from segcore.models.foreign.exported import Exported
from segcore.models.foreign.keras_file import Keras
from segcore.models.foreign.onnx_file import Onnx
from segcore.models.foreign.torchscript import TorchScript
from tests.foreign_models import keras_package, make, script


class Touches:
    """An object that makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def rewritten(path: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """Write a zip file anew with other contents; names are given without the folder they lie in."""
    target = path.with_name(f"changed{path.suffix}")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name.partition("/")[2], old.read(name)))
    return target


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a network with torch.export."""
    return make(tmp_path_factory.mktemp("export"), "pt2", 1, 2).path


# torch.export ---------------------------------------------------------------------------------------


def test_pickled_weights_are_refused(exported: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"

    def change(name: str, content: bytes) -> bytes:
        if name == "data/weights/model_weights_config.json":
            config = json.loads(content)
            for entry in config["config"].values():
                entry["use_pickle"] = True
            return json.dumps(config).encode()
        return pickle.dumps(Touches(mark)) if name.startswith("data/weights/weight_") else content

    with pytest.raises(ModelError, match="holds a pickled object"):
        Exported(rewritten(exported, change))
    assert not mark.exists()


def test_pickled_samples_are_refused(exported: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    buffer = io.BytesIO()
    torch.save((Touches(mark),), buffer)

    def change(name: str, content: bytes) -> bytes:
        return buffer.getvalue() if name == "data/sample_inputs/model.pt" else content

    with pytest.raises(ModelError, match="sample inputs that are more than numbers"):
        Exported(rewritten(exported, change))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"torch.ops.aten.relu.default"', '"torch.os.system"', "the operation 'torch.os.system'"),
        ('"torch.ops.aten.relu.default"', '"torch.load"', "the operation 'torch.load'"),
        ('"torch.ops.aten.relu.default"', '"torch.ops.aten.from_file.default"', "from_file"),
        ('"torch.ops.aten.relu.default"', '"_operator.attrgetter"', "attrgetter"),
        ('"expr_str": "', '"expr_str": "__import__(\'os\').getpid() + ', "the expr_str"),
        ('"name": "image"', '"name": "image): import os #"', "import os"),
    ],
)
def test_a_graph_that_is_no_network_is_refused(exported: Path, old: str, new: str, reason: str) -> None:
    changed = []

    def change(name: str, content: bytes) -> bytes:
        if name != "models/model.json":
            return content
        text = json.dumps(json.loads(content))
        changed.append(old in text)
        return text.replace(old, new).encode()

    path = rewritten(exported, change)
    assert changed == [True]
    with pytest.raises(ModelError, match="it was not opened") as error:
        Exported(path)
    assert reason in error.value.message


def test_compiled_code_is_refused(exported: Path, tmp_path: Path) -> None:
    target = tmp_path / "compiled.pt2"
    target.write_bytes(exported.read_bytes())
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr(f"{archive.namelist()[0].partition('/')[0]}/data/aotinductor/model/net.so", b"code")
    with pytest.raises(ModelError, match="holds a part"):
        Exported(target)


def test_an_ordinary_network_is_taken_with_all_its_operations(tmp_path: Path) -> None:
    """Normalisation, attention, padding and sizes that are calculated are nothing to be refused for."""

    class Rich(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 8, 3, padding=1, padding_mode="reflect")
            self.norms = nn.ModuleList([nn.BatchNorm2d(8), nn.InstanceNorm2d(8), nn.GroupNorm(2, 8)])
            self.torch_attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.register_buffer("scale", torch.tensor(2.0))

        def forward(self, image: Tensor) -> Tensor:
            found = self.conv(image)
            for norm in self.norms:
                found = nn.functional.gelu(norm(found))
            low = nn.functional.adaptive_avg_pool2d(found, 4).flatten(2).transpose(1, 2)
            seen, _ = self.torch_attention(low, low, low)
            whole = seen.transpose(1, 2).unflatten(2, (4, 4))
            size = (image.shape[-2], image.shape[-1])
            return found + self.scale * nn.functional.interpolate(whole, size=size, mode="bilinear")

    net, image = Rich().eval(), torch.randn(1, 1, 32, 48)
    free = {2: 8 * torch.export.Dim("rows", min=1, max=64), 3: 8 * torch.export.Dim("columns", min=1, max=64)}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.export.save(
            torch.export.export(net, (image,), dynamic_shapes={"image": free}), tmp_path / "r.pt2"
        )
        expected = net(image)
    with torch.no_grad():
        assert (Exported(tmp_path / "r.pt2")(image) - expected).abs().max() < 1e-4


# TorchScript ----------------------------------------------------------------------------------------


class Saves(nn.Module):
    """A program that writes a file."""

    def forward(self, image: Tensor) -> Tensor:
        """Save the image."""
        torch.save(image, "/tmp/never-written")
        return image


class Maps(nn.Module):
    """A program that opens a file."""

    def forward(self, image: Tensor) -> Tensor:
        """Add what is in a file."""
        return image + torch.from_file("/etc/hostname", False, 1)


@pytest.mark.parametrize(("program", "operation"), [(Saves, "save"), (Maps, "from_file")])
def test_a_program_that_opens_files_is_refused(
    tmp_path: Path, program: type[nn.Module], operation: str
) -> None:
    script(program(), tmp_path / "net.pt")
    with pytest.raises(ModelError, match=operation):
        TorchScript(tmp_path / "net.pt")


class Rectifies(nn.Module):
    """A program whose code is changed by hand."""

    def forward(self, image: Tensor) -> Tensor:
        """Return what is above zero."""
        return torch.relu(image)


@pytest.mark.parametrize(
    "call",
    [
        "torch .save(image)",
        "torch. \\\n save(image)",
        "(torch.  # relu\n save)(image)",
        "image.save()",
        'getattr(torch, "save")(image)',
        'getattr(torch, "sa" "ve")(image)',
        'getattr(torch, "sa\\166e")(image)',
        'getattr(getattr(ops.aten, "a"), "save")(image)',
        "ops .mine. read(image)",
        "(ops).mine.read(image)",
    ],
)
def test_code_that_was_changed_by_hand_is_refused(tmp_path: Path, call: str) -> None:
    script(Rectifies(), tmp_path / "net.pt")
    changed = []

    def change(name: str, content: bytes) -> bytes:
        if not name.endswith(".py") or b"torch.relu(image)" not in content:
            return content
        changed.append(name)
        return content.replace(b"torch.relu(image)", call.encode())

    path = rewritten(tmp_path / "net.pt", change)
    assert len(changed) == 1
    with pytest.raises(ModelError, match="it was not opened"):
        TorchScript(path)


def test_a_program_with_two_parts_of_one_name_is_refused(tmp_path: Path) -> None:
    script(Rectifies(), tmp_path / "net.pt")
    with zipfile.ZipFile(tmp_path / "net.pt", "a") as archive:
        name = next(name for name in archive.namelist() if name.endswith(".py"))
        archive.writestr(name.replace(".py", ".PY"), "code")
    with pytest.raises(ModelError, match="damaged"):
        TorchScript(tmp_path / "net.pt")


def test_layers_in_rows_in_rows_are_taken(tmp_path: Path) -> None:
    """Their names are numbers, by which code asks for them."""
    net = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 2, 1), nn.Sequential(nn.ReLU(), nn.Conv2d(2, 2, 1)))
    ).eval()
    script(net, tmp_path / "net.pt")
    image = torch.randn(1, 1, 8, 8)
    assert torch.allclose(TorchScript(tmp_path / "net.pt")(image), net(image), atol=1e-6)


def test_a_part_of_torchvision_is_no_strange_operation(tmp_path: Path) -> None:
    misc = pytest.importorskip("torchvision.ops.misc")
    net = misc.Conv2dNormActivation(1, 2).eval()
    script(net, tmp_path / "net.pt")
    image = torch.randn(1, 1, 8, 8)
    assert torch.allclose(TorchScript(tmp_path / "net.pt")(image), net(image), atol=1e-6)


# Keras ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_lambda_is_refused(tmp_path: Path, suffix: str) -> None:
    keras = keras_package()
    path = tmp_path / f"net.{suffix}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = keras.Input((None, None, 1))
        answer = keras.layers.Lambda(lambda values: values * 2)(keras.layers.Conv2D(2, 1)(image))
        keras.Model(image, answer).save(path)
    with pytest.raises(ModelError, match="holds a Lambda layer, which is Python code") as error:
        Keras(path)
    assert "ONNX" in error.value.remedy


@pytest.mark.parametrize(
    ("layer", "module"),
    [("TorchModuleWrapper", "keras.layers"), ("Conv2D", "os"), ("function", "builtins"), ("Net", "mine")],
)
def test_a_layer_that_is_not_known_is_refused(tmp_path: Path, layer: str, module: str) -> None:
    keras_package()
    path = make(tmp_path, "keras", 1, 2).path
    target = tmp_path / "changed.keras"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                config["config"]["layers"][1] |= {"class_name": layer, "module": module}
                content = json.dumps(config).encode()
            new.writestr(name, content)
    with pytest.raises(ModelError, match=f"holds a {layer} layer"):
        Keras(target)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_what_a_network_in_a_network_would_learn_with_is_never_made(tmp_path: Path, suffix: str) -> None:
    """Keras makes the loss and the optimizer of inner networks, of whatever class the file names."""
    keras = keras_package()
    with warnings.catch_warnings(), keras.device("cpu:0"):
        warnings.simplefilter("ignore")
        image = keras.Input((None, None, 1))
        inner = keras.Model(image, keras.layers.Conv2D(2, 1)(image), name="inner")
        inner.compile(optimizer="adam", loss="mse")
        outer = keras.Model(image, keras.layers.ReLU()(inner(image)))
        outer.compile(optimizer="adam", loss="mse")
        outer.save(tmp_path / f"net.{suffix}")
    net = Keras(tmp_path / f"net.{suffix}")
    parts = [layer for layer in net._model._flatten_layers() if isinstance(layer, keras.Model)]
    assert {part.name for part in parts} >= {"inner"}
    assert not any(part.compiled for part in parts)
    values = torch.randn(1, 1, 8, 8)
    with keras.device("cpu:0"), torch.no_grad():
        expected = outer(values.movedim(1, -1), training=False)
        assert torch.allclose(net(values.movedim(1, -1)), expected, atol=1e-6)


def test_weights_alone_are_told(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    keras_package()
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file["kernel"] = np.zeros(3)
    with pytest.raises(ModelError, match="holds weights only"):
        Keras(tmp_path / "net.h5")
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["kernel"] = h5py.ExternalLink("/etc/hostname", "/")
    with pytest.raises(ModelError, match="damaged"):
        Keras(tmp_path / "link.h5")


# ONNX -----------------------------------------------------------------------------------------------


def test_numbers_of_another_folder_are_refused(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    path = make(tmp_path, "onnx", 1, 2).path
    model = onnx.load(str(path))
    onnx.save_model(model, str(path), save_as_external_data=True, location="net.data", size_threshold=64)
    image = torch.randn(1, 1, 32, 32)
    assert Onnx(path)(image).shape == (1, 2, 32, 32)
    model = onnx.load(str(path), load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../net.data"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="in another folder"):
        Onnx(path)
    (tmp_path / "net.data").unlink()
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "net.data"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="which is missing"):
        Onnx(path)
