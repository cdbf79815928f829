"""The form: exactly the options of RunConfig, there and back without loss, every problem at its field."""

from __future__ import annotations

from typing import Any

import gradio as gr
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import forms
from segcore.cli.parser import option_names
from segcore.config import RunConfig, build_config
from segcore.presets import PRESETS

NAME = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=12)
TEXT = NAME.map(str.strip).filter(bool)
FEATURES = st.integers(1, 512)


@st.composite
def configs(draw: st.DrawFn) -> RunConfig:
    layers = draw(st.integers(2, 6))
    values: dict[str, Any] = {
        "session": draw(st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,10}[A-Za-z0-9_-])?", fullmatch=True)),
        "data": {
            "axes": draw(st.sampled_from([None, "ZYX", "CZYX", "yx"])),
            "labels_as": draw(st.sampled_from(["classes", "foreground"])),
            "class_names": draw(st.lists(TEXT, max_size=4)),
            "patch_size": 64 * draw(st.integers(2, 6)),
            "patches_per_image": draw(st.integers(1, 100)),
            "augmentation": draw(st.booleans()),
            "validation_fraction": draw(st.floats(0.01, 0.9)),
            "validation_slices": draw(st.sampled_from([None, "24-29", "0,5,10-12"])),
        },
        "model": {"features": draw(FEATURES), "layers": layers},
        "training": {
            "learning_rate": draw(st.floats(1e-5, 2e-3)),
            "epochs": draw(st.integers(1, 900)),
            "max_minutes": draw(st.none() | st.floats(0.01, 600)),
            "batch_size": draw(st.sampled_from([1, 2, 4, 8, 16, 32])),
        },
        "inference": {
            "tile_size": draw(st.sampled_from([None, 64, 512])),
            "probabilities": draw(st.booleans()),
        },
    }
    return build_config(values)


def test_form_and_hidden_options_are_exactly_the_options() -> None:
    everything = [field.path for field in forms.all_fields()]
    assert len(everything) == len(set(everything))
    assert set(everything) == option_names()
    shown = {field.path for field in forms.visible_fields()}
    hidden = {field.path for field in forms.all_fields() if field.hidden}
    assert shown | hidden == option_names()
    assert not shown & hidden


def test_every_visible_field_has_a_place_on_the_page() -> None:
    placed = {field.path for field in forms.training_fields()}
    placed |= {field.path for field in forms.visible_fields("inference")}
    assert "data.axes" not in placed, "step 1 sets it, beside the images"
    placed |= {field.path for field in forms.data_fields()}
    assert placed == {field.path for field in forms.visible_fields()}
    sections = {field.section for field in forms.training_fields()}
    assert sections == {"", "hardware", "notify", *forms.GROUPS}


@settings(deadline=None, max_examples=60)
@given(config=configs())
def test_config_to_form_and_back_is_the_same(config: RunConfig) -> None:
    fields = forms.visible_fields()
    values = forms.to_values(fields, forms.from_config(config, fields))
    assert build_config(values) == config


@settings(deadline=None, max_examples=20)
@given(config=configs())
def test_components_accept_what_a_run_of_the_command_line_had(config: RunConfig) -> None:
    fields = forms.visible_fields()
    for field, update in zip(fields, forms.updates(config, fields), strict=True):
        if not isinstance(update, gr.components.Component):
            continue
        # What the page would send back must pass the component's own checks.
        shown = forms.shown(field, forms.from_config(config, [field])[0])
        assert update.preprocess(update.postprocess(shown)) == shown


@pytest.mark.parametrize("field", forms.visible_fields(), ids=lambda field: field.path)
def test_every_component_shows_its_default(field: forms.FormField) -> None:
    default = forms.from_config(RunConfig(session="em"), [field])[0]
    component = forms.component(field, default)
    assert component.label == field.title
    assert component.preprocess(component.postprocess(default)) in (default, default or None)


def test_problems_stand_at_their_fields_in_the_words_of_the_form() -> None:
    config, problems = forms.check(
        {"session": "a/b", "data": {"patch_size": 48}, "model": {"layers": 5}, "training": {"epochs": 0}}
    )
    assert config is None
    assert set(problems) == {"session", "training.epochs"}
    assert problems["training.epochs"].startswith("Epochs is 0")
    config, problems = forms.check({"data": {"patch_size": 48}, "model": {"layers": 5}})
    assert config is None
    assert set(problems) == {"data.patch_size"}
    assert problems["data.patch_size"].startswith("Patch size 48 does not fit")


def test_a_problem_that_no_field_has_belongs_to_the_whole_form() -> None:
    config, problems = forms.check({"data": {"nonsense": 1}})
    assert config is None
    assert set(problems) == {""}


def test_a_good_form_has_no_problems() -> None:
    config, problems = forms.check({"training": {"epochs": 3}})
    assert config is not None
    assert config.training.epochs == 3
    assert not problems


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_sets_what_it_names_and_only_that(name: str) -> None:
    fields = forms.training_fields()
    chosen = forms.preset_values(name, fields)
    assert set(chosen) == {f"{section}.{key}" for section, part in PRESETS[name].items() for key in part}
    values = dict(zip((field.path for field in fields), forms.from_config(RunConfig(), fields), strict=True))
    config, problems = forms.check(forms.read_training(list((values | chosen).values()), {}))
    assert config is not None
    assert not problems


def test_empty_fields_mean_not_set() -> None:
    fields = forms.visible_fields()
    by_path = {field.path: field for field in fields}
    assert forms.parsed(by_path["data.validation_slices"], "  ") is None
    assert forms.parsed(by_path["training.max_minutes"], None) is None
    assert forms.parsed(by_path["data.class_names"], " a, , b ") == ["a", "b"]
    # An emptied field that must have a value is a problem of that field, not a silent default.
    _, problems = forms.check({"training": {"epochs": forms.parsed(by_path["training.epochs"], None)}})
    assert set(problems) == {"training.epochs"}


def test_help_is_escaped_and_names_the_field() -> None:
    for field in forms.visible_fields():
        html = forms.help_html(field)
        assert html.startswith("<details")
        assert field.label in html


def test_the_rate_that_plain_descent_needs_can_be_typed_and_the_arrows_move_it_little() -> None:
    field = next(field for field in forms.all_fields() if field.path == "training.learning_rate")
    assert forms.component(field, 1e-3).step == pytest.approx(1e-4)
    for rate in (1e-5, 0.03, 0.3):
        config, problems = forms.check(forms.to_values([field], [rate]))
        assert not problems
        assert config is not None
        assert config.training.learning_rate == rate
    batches = next(field for field in forms.all_fields() if field.path == "training.keep_every")
    assert forms.component(batches, 10).step == 1
