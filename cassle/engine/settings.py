"""Signatures are the configuration: components' keyword-only arguments become one flat, typed set of settings.

A component is a class or function. Its positional arguments are handed in by the house (the backbone, the image size);
its keyword-only arguments are settings. Flags, YAML keys, ``--help``, the saved configuration and the keywords of
``cassle.Experiment`` are all read from there, through jsonargparse, and from nowhere else.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from jsonargparse import ArgumentParser

from cassle.checks import out_of_range
from cassle.errors import ConfigError
from cassle.registry import did_you_mean

#: what the house hands to the end of a chain of ``*args``: of methods, and of memories
POSITIONAL = {"backbone", "optimization", "feature_dim", "payload_shape"}

#: other spellings of a setting, among them upstream's
ALIASES = {
    "encoder": "backbone", "checkpoint_dir": "experiment_dir", "num_crops_per_aug": "num_crops",
    # the continual-SSL library
    "model": "method", "num_exps": "num_tasks", "dataset_root": "data_dir", "dim_proj": "output_dim",
    "dim_pred": "pred_hidden_dim", "buffer_type": "memory", "repl_mb_size": "replay_batch_size",
    "features_buffer_ema": "feature_ema",
    "mb_passes": "num_updates", "tr_mb_size": "batch_size",
    # CCL
    "arch": "backbone", "n_tasks": "num_tasks", "ccl_teacher_m": "ccl_momentum", "ccl_k": "extra_queue_size",
    "moco_dim": "output_dim", "moco_k": "queue_size", "moco_m": "base_tau_momentum", "moco_t": "temperature",
}  # fmt: skip


@dataclass(frozen=True)
class Component:
    """A group of settings: its title in ``--help``, the class or function whose signature it is, and what to hide."""

    title: str
    target: Callable[..., Any]
    hidden: frozenset[str] = frozenset()


class Schema:
    """The settings of some components, and how their values are read.

    Args:
        components: in the order of ``--help``; a setting belongs to the first that has it.
        description: what ``--help`` says at the top.
        elsewhere: says of a setting that none of the components has where it belongs, or None; see :func:`belonging`.
    """

    def __init__(
        self,
        components: list[Component],
        description: str = "",
        elsewhere: Callable[[str], str | None] = lambda name: None,
    ) -> None:
        self.parser = ArgumentParser(exit_on_error=False, description=description, default_env=False)
        self.owner: dict[str, Callable[..., Any]] = {}
        self.elsewhere = elsewhere
        for component in components:
            self._add(component)
        self._types = {action.dest: getattr(action, "_typehint", None) for action in self.parser._actions}

    def _add(self, component: Component) -> None:
        target = component.target
        group = self.parser.add_argument_group(component.title)
        add = self.parser.add_class_arguments if inspect.isclass(target) else self.parser.add_function_arguments
        before = len(self.parser._action_groups)
        parameters = inspect.signature(target).parameters.values()
        settings = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
        handed_in = POSITIONAL | {p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}
        handed_in |= _positional_of_bases(target)
        skip = (handed_in - settings) | component.hidden
        for name in add(target, nested_key=None, skip=skip, fail_untyped=False):
            self.owner[name] = target
        # jsonargparse titles a group by its class; people look for the room of the house
        made = self.parser._action_groups[before:]
        for extra in made:
            group._group_actions += extra._group_actions
            self.parser._action_groups.remove(extra)

    def set_defaults(self, defaults: Mapping[str, Any]) -> None:
        """Change the defaults of some settings, in ``--help`` too."""
        self.parser.set_defaults(dict(defaults))

    def defaults(self) -> dict[str, Any]:
        """Return the default of every setting."""
        return vars(self.parser.get_defaults())

    @property
    def names(self) -> list[str]:
        """All settings."""
        return list(self.owner)

    def problems(self, values: Mapping[str, Any]) -> list[str]:
        """Return one sentence per unknown setting and per value of a wrong type or out of its range."""
        return self.read(values)[1]

    def resolve(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return every setting with its type and default.

        Raises:
            ConfigError: all unknown settings and wrong values, together.
        """
        resolved, problems = self.read(values)
        if problems:
            raise ConfigError(problems)
        return resolved

    def read(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return every setting, those with a wrong value at their defaults; and one sentence per wrong one."""
        wrong = {name: self._unknown(name) for name in values if name not in self.owner}
        given = {name: self._as_typed(name, value) for name, value in values.items() if name in self.owner}
        if not self._fit(given):  # one by one, which takes seconds for a whole configuration
            wrong |= {name: self._misfit(name, value) for name, value in given.items() if not self._fit({name: value})}
        resolved = self._parse({name: value for name, value in given.items() if name not in wrong})
        for component in dict.fromkeys(self.owner.values()):
            wrong |= out_of_range(component, self.arguments(component, resolved))
        if wrong:
            resolved = self._parse({name: value for name, value in given.items() if name not in wrong})
        return resolved, list(wrong.values())

    def arguments(self, target: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the part of resolved ``values`` that ``target`` takes."""
        return {name: values[name] for name, owner in self.owner.items() if owner is target}

    def _parse(self, values: dict[str, Any]) -> dict[str, Any]:
        return vars(self.parser.parse_object(deepcopy(values)))  # it would change the caller's lists in place

    def _unknown(self, name: str) -> str:
        if where := self.elsewhere(name):
            return f"--{name}: {where}"
        off = f"disable_{name}"
        if off in self.owner:  # the closest name means the opposite
            usual = f"off; --{off} false turns it on" if self.parser.get_default(off) else f"on; --{off} turns it off"
            return f"--{name}: unknown. By default it is {usual}."
        return f"--{name}: unknown.{did_you_mean(name, [*self.owner, *ALIASES])}"

    def _as_typed(self, name: str, value: Any) -> Any:
        """Return one value for a setting that takes a list as a list of one, and nothing as the word, if it is one."""
        if value is None and "none" in get_args(self._types[name]):
            return "none"
        kinds = {get_origin(kind) or kind for kind in _alternatives(self._types[name])}
        single = kinds <= {list, NoneType} and not isinstance(value, list | tuple | NoneType)
        return [value] if single and value is not True else value

    def _fit(self, values: dict[str, Any]) -> bool:
        if any(value is None and NoneType not in _alternatives(self._types[name]) for name, value in values.items()):
            return False  # jsonargparse takes None for any type
        try:
            self._parse(values)
        except Exception:  # jsonargparse wraps whatever a type raises
            return False
        return True

    def _misfit(self, name: str, value: Any) -> str:
        kind = _words(self._types[name], name)
        if value is True:  # the flag stood alone
            return f"--{name}: needs a value; it must be {kind}."
        given = " ".join(map(str, value)) if isinstance(value, list | tuple) else "none" if value is None else value
        flag = isinstance(given, str) and given in self.owner  # --optimizer lars
        hint = f" There is a flag --{given}." if flag else ""
        return f"--{name} {given}: must be {kind}.{hint}"


def _positional_of_bases(target: Callable[..., Any]) -> set[str]:
    """Return the names that a class which passes ``*args`` on takes from the house all the same."""
    made = [vars(base)["__init__"] for base in getattr(target, "__mro__", ()) if "__init__" in vars(base)]
    parameters = [p for init in made if inspect.isfunction(init) for p in inspect.signature(init).parameters.values()]
    own = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    return {p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD} - own


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _words(kind: Any, name: str) -> str:
    """Say in words which values a type has."""
    names = {int: "an integer", float: "a number", bool: "true or false", str: "text", Path: "a path"}
    several = {int: "one or more integers", float: "one or more numbers"}
    kinds = [part for part in _alternatives(kind) if part is not NoneType]
    only = next((part for part in kinds if get_origin(part) is list), kinds[0])  # a list may be of one
    inside = get_args(only)
    if get_origin(only) is Literal:
        return f"one of {list(inside)}"
    if get_origin(only) is list:
        return several.get(getattr(inside[0], "__origin__", inside[0]), "a list")  # without its range
    if get_origin(only) is dict:
        return f"options by their names, --{name}.NAME VALUE"
    return names.get(only) or getattr(only, "__name__", str(only))


def belonging(chosen: Mapping[str, tuple[Mapping[str, Any], str | None]]) -> Callable[[str], str | None]:
    """Return a function that says which choice has a setting that the chosen components lack.

    Args:
        chosen: by flag, the components to choose from and the name of the chosen one, e.g. ``{"method": (METHODS,
            "simclr")}``.
    """

    def where(name: str) -> str | None:
        for flag, (components, choice) in chosen.items():
            having = [other for other in components if name in settings_of(components[other])]
            if not having:
                continue
            wanted = "" if len(having) == len(components) else f" {' or '.join(having)}"
            return f"needs --{flag}{wanted}." if choice is None else f"belongs to --{flag}{wanted}, not {choice}."
        return None

    return where


@cache
def settings_of(target: Callable[..., Any]) -> set[str]:
    """Return the names of the settings of one component."""
    return set(Schema([Component("", target)]).names)


def canonical_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with each setting under its own name.

    Raises:
        ConfigError: a setting is given under two names.
    """
    named: dict[str, list[str]] = {}
    for name in values:
        named.setdefault(ALIASES.get(name, name), []).append(name)
    twice = [
        f"{' and '.join(f'--{name}' for name in sorted(names, key=lambda name: name == own))}: are the same flag; "
        "give one of them."
        for own, names in named.items()
        if len(names) > 1
    ]
    if twice:
        raise ConfigError(twice)
    return {ALIASES.get(name, name): value for name, value in values.items()}


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as plain data (paths as text), fit for YAML, JSON and checkpoints."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
