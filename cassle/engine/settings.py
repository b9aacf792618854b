"""Signatures are the configuration: components' keyword-only arguments become one flat, typed set of settings.

A component is a class or function. Its positional arguments are handed in by the house (the backbone, the image size);
its keyword-only arguments are settings. Flags, YAML keys, ``--help``, the saved configuration and the keywords of
``cassle.Experiment`` are all read from there, through jsonargparse, and from nowhere else.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from cassle.errors import ConfigError
from cassle.registry import did_you_mean

POSITIONAL = {"backbone", "optimization", "image_size"}  #: what the house hands in

#: other spellings of a setting, among them upstream's
ALIASES = {"encoder": "backbone", "checkpoint_dir": "experiment_dir", "num_crops_per_aug": "num_crops"}


@dataclass(frozen=True)
class Component:
    """A group of settings: its title in ``--help`` and the class or function whose signature it is."""

    title: str
    target: Callable[..., Any]


class Schema:
    """The settings of some components, and how their values are read.

    Args:
        components: in the order of ``--help``; a setting belongs to the first that has it.
        description: what ``--help`` says at the top.
    """

    def __init__(self, components: list[Component], description: str = "") -> None:
        self.parser = ArgumentParser(exit_on_error=False, description=description, default_env=False)
        self.owner: dict[str, Callable[..., Any]] = {}
        for component in components:
            self._add(component)

    def _add(self, component: Component) -> None:
        target = component.target
        group = self.parser.add_argument_group(component.title)
        add = self.parser.add_class_arguments if inspect.isclass(target) else self.parser.add_function_arguments
        before = len(self.parser._action_groups)
        settings = {p.name for p in inspect.signature(target).parameters.values() if p.kind is p.KEYWORD_ONLY}
        for name in add(target, nested_key=None, skip=POSITIONAL - settings, fail_untyped=False):
            self.owner[name] = target
        # jsonargparse titles a group by its class; people look for the room of the house
        made = self.parser._action_groups[before:]
        for extra in made:
            group._group_actions += extra._group_actions
            self.parser._action_groups.remove(extra)

    @property
    def names(self) -> list[str]:
        """All settings."""
        return list(self.owner)

    def problems(self, values: Mapping[str, Any]) -> list[str]:
        """Return one sentence per unknown setting and per value of a wrong type."""
        found = [
            f"--{name}: unknown.{did_you_mean(name, [*self.owner, *ALIASES])}"
            for name in values
            if name not in self.owner
        ]
        for name, value in values.items():
            if name in self.owner:
                try:
                    self.parser.parse_object({name: value})
                except Exception as error:  # jsonargparse wraps whatever a type raises
                    found.append(f"--{name} {value}: {_reason(error)}")
        return found

    def resolve(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return every setting with its type and default.

        Raises:
            ConfigError: all unknown settings and wrong values, together.
        """
        try:
            if any(name not in self.owner for name in values):
                raise ConfigError(self.problems(values))
            return vars(self.parser.parse_object(dict(values)))
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(self.problems(values) or str(error)) from None

    def arguments(self, target: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the part of resolved ``values`` that ``target`` takes."""
        return {name: values[name] for name, owner in self.owner.items() if owner is target}


def _reason(error: Exception) -> str:
    """Put jsonargparse's complaint about a value into a few words."""
    text = " ".join(str(error).split())
    expected = re.search(r"Expected (?:a |an )?(.+?)\.? Got value", text)
    options = re.search(r"(\[[^\]]*\]|Literal\[[^\]]*\])", text)
    if "Literal" in text and options:
        return f"must be one of {options.group(1).removeprefix('Literal')}."
    if expected:
        return f"must be {_words(expected.group(1))}."
    return text


def _words(kind: str) -> str:
    names = {"int": "an integer", "float": "a number", "bool": "true or false", "str": "text", "Path": "a path"}
    inside = re.search(r"class '(?:[\w.]*\.)?(\w+)'", kind)
    return names.get(inside.group(1), kind) if inside else kind


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as plain data (paths as text), fit for YAML, JSON and checkpoints."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
