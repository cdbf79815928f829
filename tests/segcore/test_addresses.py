"""Names of weights: what has the form of an id of the hub, and what lies here."""

from __future__ import annotations

from pathlib import Path

import pytest

from segcore.addresses import split_hub_id
from segcore.cli.parser import absolute_paths
from segcore.config import RunConfig


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("nvidia/mit-b0", ("nvidia/mit-b0", None)),
        ("timm/resnet34.a1_in1k", ("timm/resnet34.a1_in1k", None)),
        ("owner/name@refs/pr/1", ("owner/name", "refs/pr/1")),
        ("imagenet", None),
        ("", None),
        ("data/encoder.safetensors", None),
        ("data/encoders/b0", None),
        ("/etc/weights", None),
        ("~/weights", None),
        ("./weights", None),
        ("../weights", None),
        ("owner/..", None),
        ("owner/name@../../../etc", None),
        ("owner/name@main/../../etc", None),
    ],
)
def test_an_id_of_the_hub_is_told_from_a_path(reference: str, parts: tuple[str, str | None] | None) -> None:
    assert split_hub_id(reference) == parts


def test_weights_that_lie_here_get_their_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "b0").touch()
    monkeypatch.chdir(tmp_path)
    config = RunConfig()
    for given, expected in {
        "own/b0": str(tmp_path / "own" / "b0"),
        "nvidia/mit-b0": "nvidia/mit-b0",
        "imagenet": "imagenet",
        "": "",
    }.items():
        named = config.model_copy(update={"model": config.model.model_copy(update={"pretrained": given})})
        assert absolute_paths(named).model.pretrained == expected
