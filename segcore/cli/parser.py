"""Parsers of the command line: the options of a run come from RunConfig, all mistakes are told at once."""

from __future__ import annotations

import argparse
import json
import sys
from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, CliSettingsSource, SettingsConfigDict

from segcore.addresses import IMAGENET, absolute_address
from segcore.card import read_config
from segcore.cli.usage import UsageError as UsageError
from segcore.config import SECTIONS, RunConfig, build_config
from segcore.errors import ConfigError
from segcore.workspace import ENVIRONMENT

YES_NO = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


SHORT = {
    "--model": "--inference.model",
    "--model-config": "--inference.config-file",
    "--cluster": "--inference.cluster",
}


class Parser(ArgumentParser):
    """An argument parser whose complaints are UsageErrors."""

    def __init__(self, command: str, description: str) -> None:
        super().__init__(prog=f"segcore {command}", description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise the complaint with the way to the help."""
        raise UsageError(f"{self.prog}: {message}.", f"`{self.prog} --help` lists the options.")

    def _print_message(self, message: str, file: Any = None) -> None:
        (file or sys.stderr).write(message)


def add_common(parser: ArgumentParser, as_json: bool = True) -> None:
    """Add the options that most commands share."""
    parser.add_argument(
        "--workspace",
        type=Path,
        metavar="FOLDER",
        help=f"folder of data, runs and results (default: ${ENVIRONMENT} or ./workspace)",
    )
    if as_json:
        parser.add_argument("--json", action="store_true", help="write one JSON object to stdout")


class _RunSettings(BaseSettings, RunConfig):
    # Only the CLI source is ever asked: no environment variable may set an option behind the user's back.
    model_config = SettingsConfigDict(
        extra="forbid", case_sensitive=True, nested_model_default_partial_update=True
    )


class RunParser:
    """A parser that takes every option of RunConfig as `--group.option`, and `--config FILE`.

    Parameters
    ----------
    command, description : str
        Name and purpose, for the help.
    applies_model : bool
        Also take `--model`, `--model-config` and `--cluster` as short names of the inference options.
    """

    def __init__(self, command: str, description: str, applies_model: bool = False) -> None:
        self.parser = Parser(command, description)
        add_common(self.parser)
        self.parser.add_argument(
            "--config",
            type=Path,
            metavar="FILE",
            help="config.json to start from; the other options override it",
        )
        self._short = SHORT if applies_model else {}
        if applies_model:
            names = ", ".join(f"{short} is short for {full}" for short, full in SHORT.items())
            self.parser.epilog = f"{names}."
        self._source = CliSettingsSource[Any](
            _RunSettings,
            root_parser=self.parser,
            cli_parse_args=False,
            cli_kebab_case=True,
            cli_implicit_flags=True,
            cli_hide_none_type=True,
            cli_avoid_json=True,
        )
        for action in self.parser._actions:
            _shorten_help(action)

    def parse(self, words: Sequence[str]) -> tuple[Namespace, RunConfig]:
        """Return the command's own options and the run's options; relative paths are made absolute.

        Raises
        ------
        UsageError
            Options are unknown or outside their rules; the message lists all of them.
        """
        full = self._full_names(words)
        groups = [word for word in full if word.partition("=")[0] in {f"--{name}" for name in SECTIONS}]
        if groups:
            raise UsageError(
                f"{groups[0]} is a group of options.", f"`{self.parser.prog} --help` lists its options."
            )
        known, unknown = self.parser.parse_known_args(self._explicit_flags(full))
        # What follows an unknown option is most likely its value.
        problems = [self._unknown(word) for word in unknown if word.startswith("-")]
        problems = problems or [f"{word!r} belongs to no option." for word in unknown]
        remedy = f"`{self.parser.prog} --help` lists the options."
        try:
            config = build_config(self._merge(known))
        except ConfigError as error:
            problems += error.message.splitlines()
            remedy = error.remedy or remedy
        if problems:
            raise UsageError("\n".join(problems), remedy)
        return known, absolute_paths(config)

    def _merge(self, known: Namespace) -> dict[str, Any]:
        given = {name: value for name, value in vars(known).items() if name in option_names()}
        # pydantic-settings takes lists apart in a way of its own that fails on quotes: it is not shown any.
        lists = {name for name, field in option_fields() if get_origin(field.annotation) is list}
        plain = {name: value for name, value in given.items() if name not in lists}
        values: dict[str, Any] = self._source(parsed_args=plain)()
        for name in lists & given.keys():
            group, _, last = name.rpartition(".")
            values.setdefault(group, {})[last] = _read_list(name, given[name])
        for name, field in option_fields():
            _to_literal(values, name, field)
        if known.config is None:
            return values
        try:
            base = read_config(known.config)[0].model_dump()
        except ConfigError as error:
            raise UsageError(error.message, error.remedy) from error
        return _overlay(base, values)

    def _full_names(self, words: Sequence[str]) -> list[str]:
        result = []
        for word in words:
            flag, equals, value = word.partition("=")
            result.append(f"{self._short.get(flag, flag)}{equals}{value}" if word.startswith("--") else word)
        return result

    def _explicit_flags(self, words: Sequence[str]) -> list[str]:
        """Rewrite `--flag false` and `--flag=false` as `--no-flag`, which is what argparse knows."""
        flags = {
            text
            for action in self.parser._actions
            if isinstance(action, BooleanOptionalAction)
            for text in action.option_strings
            if not text.startswith("--no-")
        }
        result: list[str] = []
        rest = iter(range(len(words)))
        for index in rest:
            flag, equals, value = words[index].partition("=")
            following = words[index + 1] if index + 1 < len(words) else ""
            answer = YES_NO.get((value if equals else following).lower())
            if flag not in flags or answer is None:
                result.append(words[index])
                continue
            result.append(flag if answer else f"--no-{flag[2:]}")
            if not equals:
                next(rest)
        return result

    def _unknown(self, word: str) -> str:
        flag = word.partition("=")[0]
        known = [text for action in self.parser._actions for text in action.option_strings]
        near = get_close_matches(flag, known, 1)
        return f"{flag} is not an option." + (f" Did you mean {near[0]}?" if near else "")


def option_fields() -> Iterator[tuple[str, FieldInfo]]:
    """Yield `("data.patch_size", field)` for every option of RunConfig."""
    for name, field in RunConfig.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            for inner, inner_field in section.model_fields.items():
                yield f"{name}.{inner}", inner_field
        else:
            yield name, field


def option_names() -> set[str]:
    """Return the dotted names of all options."""
    return {name for name, _ in option_fields()}


def absolute_paths(config: RunConfig) -> RunConfig:
    """Return `config` with its paths made absolute: a job may run from another folder."""
    inference = {name: _absolute(getattr(config.inference, name)) for name in ("model", "config_file")}
    return config.model_copy(
        update={
            "data": config.data.with_addresses(absolute_address),
            "model": config.model.model_copy(update={"pretrained": _weights(config.model.pretrained)}),
            "inference": config.inference.model_copy(update=inference),
        }
    )


def _absolute(path: str | None) -> str | None:
    if path is None or path.startswith("models:/"):
        return path
    return str(Path(path).expanduser().resolve())


def _weights(reference: str) -> str:
    """Return pretrained weights that lie here with their whole path; an id of the hub stays as it is."""
    path = Path(reference).expanduser()
    return str(path.resolve()) if reference not in ("", IMAGENET) and path.exists() else reference


def _overlay(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in values.items():
        inner = merged.get(name)
        if isinstance(value, Mapping) and isinstance(inner, Mapping):
            value = _overlay(inner, value)
        merged[name] = value
    return merged


def _to_literal(values: dict[str, Any], name: str, field: FieldInfo) -> None:
    """Turn "8" into 8 where only certain numbers are allowed: pydantic compares those without converting."""
    *groups, last = name.split(".")
    for group in groups:
        values = values.get(group, {})
    value = values.get(last)
    if get_origin(field.annotation) is Literal and isinstance(value, str):
        matches = [choice for choice in get_args(field.annotation) if str(choice) == value]
        values[last] = matches[0] if matches else value


def _read_list(name: str, words: Sequence[str]) -> list[Any]:
    """Return the items of a list that was given, once or several times, as JSON or as words with commas."""
    items: list[Any] = []
    for word in words:
        if not word.lstrip().startswith("["):
            items += [part.strip() for part in word.split(",")]
            continue
        try:
            items += json.loads(word)
        except ValueError as error:
            raise ConfigError(
                f"{name} is {word!r}: it begins like a JSON list, but is none ({error})."
            ) from error
    return items


def _shorten_help(action: argparse.Action) -> None:
    text = (action.help or "").split(" (default factory:")[0]
    for nothing in (" (default: None)", " (default: [])", " (default: %(default)s)"):
        text = text.removesuffix(nothing)
    action.help = text
