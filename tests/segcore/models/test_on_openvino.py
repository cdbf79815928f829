"""OpenVINO gives what the trained network gives; where it is missing, that is said with the remedy."""

from __future__ import annotations

import pytest
import torch

from segcore.errors import ConfigError
from segcore.models import on_openvino
from segcore.models.unet import UNet


@pytest.mark.parametrize("strides", [(), ((1, 2, 2), (2, 2, 2))])
def test_openvino_changes_no_logit(strides: tuple[tuple[int, int, int], ...]) -> None:
    pytest.importorskip("openvino")
    torch.manual_seed(3)
    network = UNet(2, 3, 3, 2, strides).eval()
    applied = on_openvino.OnOpenVino(network, torch.float32)
    for shape in ((8, 32, 16), (3, 17, 9)):
        images = torch.randn(2, 2, *shape[3 - network.dimensions :])
        with torch.inference_mode():
            expected = network(images)
        torch.testing.assert_close(applied(images), expected, rtol=1e-3, atol=1e-3)
        keep = tuple(slice(1, size - 1) for size in images.shape[2:])
        torch.testing.assert_close(applied(images, keep), expected[:, :, *keep], rtol=1e-3, atol=1e-3)


def test_a_missing_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_openvino, "find_spec", lambda name: None)
    with pytest.raises(ConfigError) as error:
        on_openvino.require_openvino()
    assert "pip install" in error.value.remedy
