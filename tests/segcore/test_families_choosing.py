"""What is proposed can always work with the options, is installed, and says why."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segcore.config import build_config
from segcore.errors import ConfigError
from segcore.families import FAMILIES, Facts, Material, candidates, choosing, propose
from segcore.jobs.trials import facts_of

facts = st.builds(
    Facts,
    mode=st.sampled_from(["2d", "2.5d", "3d"]),
    patch=st.sampled_from([32, 48, 64, 96, 128, 256]),
    layers=st.integers(2, 6),
    encoder=st.sampled_from(["resnet34", "mit_b0", "vgg16_bn"]),
    features=st.sampled_from([4, 16, 20, 64]),
)
material = st.builds(Material, graphics=st.booleans(), annotated=st.integers(0, 300))


@given(facts, material)
def test_what_is_proposed_works_wherever_anything_does(known: Facts, of: Material) -> None:
    able = [family for family in FAMILIES.values() if of.kind in family.kinds]
    working = [family for family in able if choosing.fits(family, known)]
    name, why = propose(known, of)
    assert why.endswith(".")
    if working:
        assert FAMILIES[name] in working
    tried = candidates(known, of)
    assert tried[:1] == ((name,) if working else ())
    assert len(set(tried)) == len(tried) == min(choosing.TRIED, len(working))
    assert all(FAMILIES[one] in working for one in tried)


@given(facts, material)
def test_the_options_accept_every_candidate(known: Facts, of: Material) -> None:
    for name in candidates(known, of):
        model = {"family": name, "layers": known.layers, "encoder": known.encoder, "features": known.features}
        data = {"mode": known.mode, "patch_size": known.patch}
        config = build_config({"model": model, "data": data})
        assert facts_of(config).patch == known.patch
        assert facts_of(config).layers == known.layers


def test_a_machine_without_a_graphics_card_is_not_asked_for_the_large_network() -> None:
    name, why = propose(Facts(), Material())
    assert name == "unet-small"
    assert "7 times as many patches" in why
    assert propose(Facts(features=16), Material()).name == "unet", "it is smaller than the small one"
    assert propose(Facts(), Material(graphics=True)).name == "unet"
    solid = propose(Facts("3d"), Material(graphics=True)).name
    assert solid == ("dynunet" if choosing.is_installed(FAMILIES["dynunet"]) else "unet")


def test_what_is_not_installed_is_not_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "find_spec", lambda name: None)
    for of in (Material(), Material(graphics=True)):
        for mode in ("2d", "3d"):
            assert not any(FAMILIES[name].package for name in candidates(Facts(mode), of))
            assert not FAMILIES[propose(Facts(mode), of).name].package


def test_where_nothing_works_the_least_demanding_is_named() -> None:
    name, why = propose(Facts(patch=33), Material())
    assert name == "unet"
    assert "No family" in why
    assert candidates(Facts(patch=33), Material()) == ()
    with pytest.raises(ConfigError):
        build_config({"data": {"patch_size": 33}})
