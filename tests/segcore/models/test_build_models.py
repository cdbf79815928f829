"""From options to a network: what must be installed, and where the usual weights of a family are."""

from __future__ import annotations

import pytest

from segcore.config import build_config
from segcore.errors import ConfigError
from segcore.models import build


@pytest.mark.parametrize(("family", "missing"), [("swin-unetr", "einops"), ("dynunet", "monai")])
def test_a_package_that_is_missing_is_named(
    family: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "find_spec", lambda name: None if name == missing else name)
    with pytest.raises(ConfigError, match=f"{missing} is not installed"):
        build.build_model(build_config({"model": {"family": family}}).model, 1, 2)


@pytest.mark.parametrize(
    ("given", "wanted"), [("imagenet", "nvidia/mit-b3"), ("owner/name", "owner/name"), ("", "")]
)
def test_the_usual_weights_of_a_segformer_are_those_of_its_size(
    given: str, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr("segcore.models.segformer.build_segformer", lambda *words: asked.append(words))
    config = build_config({"model": {"family": "segformer-b3", "pretrained": given}})
    build.build_model(config.model, 1, 2)
    assert asked == [(1, 2, "b3", wanted)]
