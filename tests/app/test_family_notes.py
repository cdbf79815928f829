"""What the form says of a family: its two lines, the others that cannot work, and only the options it has."""

from __future__ import annotations

from app import form_layout, forms
from app.family_notes import family_html, refusals
from segcore.config import RunConfig
from segcore.families import FAMILIES

FIELDS = forms.training_fields()
DEFAULTS = dict(zip((field.path for field in FIELDS), forms.from_config(RunConfig(), FIELDS), strict=True))


def test_the_two_lines_of_the_chosen_family_are_shown() -> None:
    for family in FAMILIES.values():
        html = family_html(DEFAULTS | {"model.family": family.name})
        assert family.good_for.replace("'", "&#x27;") in html
        assert family.costs.replace("'", "&#x27;") in html


def test_what_cannot_work_is_named_with_the_reason_and_refused_by_the_options() -> None:
    for changes in ({}, {"data.mode": "3d", "data.patch_size": 64}, {"data.patch_size": 48}):
        told = refusals(DEFAULTS | changes)
        for family in FAMILIES.values():
            values = forms.merged({}, {"model": {"family": family.name}})
            for path, value in changes.items():
                section, _, name = path.partition(".")
                values = forms.merged(values, {section: {name: value}})
            config, problems = forms.check(values)
            named = any(text.startswith(f"{family.title}: ") for text in told)
            assert named is (config is None), (family.name, changes, problems)
            assert named is bool(problems)


def test_an_option_that_shows_nothing_counts_as_usual() -> None:
    emptied = dict.fromkeys(("data.patch_size", "model.layers", "model.features", "model.encoder"))
    assert refusals(DEFAULTS | emptied) == refusals(DEFAULTS)
    refused = len(refusals(DEFAULTS))
    assert f"<summary>{refused} families cannot" in family_html(DEFAULTS)
    assert len(refusals(DEFAULTS | {"data.mode": "3d"})) > refused


def test_a_family_shows_its_own_options_only() -> None:
    for family in FAMILIES.values():
        values = DEFAULTS | {"model.family": family.name, "model.features": 32, "model.encoder": "resnet50"}
        shown = {path for path in form_layout.OF_FAMILY if form_layout.applies(path, values)}
        assert shown == {f"model.{name}" for name in family.options}
