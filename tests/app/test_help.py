"""Help: every option has an article, every article belongs to something, and facts come from the config."""

from __future__ import annotations

import re

import pytest

from app import help as guide
from app.tabs import help as tab
from segcore.config import SECTIONS, RunConfig
from segcore.errors import ConfigError

NAMES = [name for name, _ in guide.articles()]


def test_every_option_has_an_article_and_every_article_belongs_to_something() -> None:
    options = {"session"}
    for section in SECTIONS:
        model = type(getattr(RunConfig(), section))
        options |= {f"{section}.{name}" for name in model.model_fields}
    files = {path.stem for path in guide.FOLDER.glob("*.md")}
    assert files == options | set(guide.GENERAL) | set(guide.METRICS)
    assert sorted(NAMES) == sorted(files)


@pytest.mark.parametrize("name", NAMES)
def test_an_article_is_short_and_names_its_source(name: str) -> None:
    text = (guide.FOLDER / f"{name}.md").read_text(encoding="utf-8")
    assert re.match(r"# \S", text)
    assert 60 <= len(text.split()) <= 185
    assert "\nSource: " in text


@pytest.mark.parametrize("name", guide.options())
def test_the_facts_of_an_option_are_those_of_its_field(name: str) -> None:
    field = guide.options()[name]
    facts = guide.article(name).strip().splitlines()[-1]
    assert f"`--{name.replace('_', '-')}`" in facts
    if isinstance(field.default, str | int | float) and not isinstance(field.default, bool):
        value = f"{field.default:g}" if isinstance(field.default, float) else str(field.default)
        assert f"**Default** {value or 'not set'}" in facts
    for item in field.metadata:
        for rule in ("ge", "le", "gt", "multiple_of"):
            if getattr(item, rule, None) is not None:
                assert f"{getattr(item, rule):g}" in facts or str(getattr(item, rule)) in facts


def test_an_unknown_article_is_refused_with_the_known_ones() -> None:
    for name in ("nothing", "../../README", "", "help/session"):
        with pytest.raises(ConfigError, match=r"data\.patch_size"):
            guide.article(name)


def test_the_search_finds_titles_first_and_every_word() -> None:
    found = [name for name, _ in guide.find_articles("batch")]
    assert found[0] == "training.batch_size"
    for name, _ in guide.find_articles("memory card"):
        text = guide.article(name).casefold()
        assert "memory" in text
        assert "card" in text
    assert guide.find_articles("qwertz") == []
    assert [name for name, _ in guide.find_articles("")] == NAMES


def test_the_tab_chooses_the_best_article_or_says_that_there_is_none() -> None:
    table, best = tab.search("tversky")
    assert best == table["picked"] == table["rows"][0]["id"] == "training.loss"
    assert "Tversky" in tab.show(best)
    table, best = tab.search("qwertz")
    assert table["rows"] == []
    assert "No article" in tab.show(best)
