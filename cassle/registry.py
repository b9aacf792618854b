"""Names to components, without importing them: a name is resolved when somebody asks for it."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cassle.errors import ConfigError


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return the hint `` Did you mean 'x'?`` for the closest choice, or an empty text when nothing is close."""
    close = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""


class Registry(Mapping[str, Any]):
    """A read-only mapping from a name to a component that is imported on first use.

    Args:
        flag: the flag that takes one of these names; error messages quote it.
        targets: name to ``"module:attribute"``.
        aliases: further spellings of a name; they resolve but are not listed.
        families: prefix to the ``"module:attribute"`` of a function that maps the rest of a name to its component, the
            same object each time, or raises a ConfigError; e.g. all models of timm. They are not listed either.
    """

    def __init__(
        self,
        flag: str,
        targets: dict[str, str],
        aliases: dict[str, str] | None = None,
        families: dict[str, str] | None = None,
    ) -> None:
        self.flag = flag
        self._targets = dict(targets)
        self._aliases = dict(aliases or {})
        self._families = dict(families or {})

    def canonical(self, name: str) -> str:
        """Return the listed name that ``name`` stands for.

        Raises:
            ConfigError: the name is unknown; the text lists the known ones and suggests the closest.
        """
        resolved = self._aliases.get(name, name)
        if self._member(resolved) is None and resolved not in self._targets:
            hint = did_you_mean(name, [*self._targets, *self._aliases])
            known = ", ".join([*self._targets, *(f"{prefix}NAME" for prefix in self._families)])
            raise ConfigError(f"--{self.flag} {name}: unknown.{hint} Known: {known}.")
        return resolved

    def __getitem__(self, name: str) -> Any:
        member = self._member(name)
        return _imported(self._targets[self.canonical(name)]) if member is None else member

    def _member(self, name: str) -> Any:
        """Return the component of a name in a family, None for a name that begins like no family."""
        for prefix, target in self._families.items():
            if name.startswith(prefix):
                return _imported(target)(name.removeprefix(prefix))
        return None

    def __contains__(self, name: object) -> bool:
        if name in self._targets or name in self._aliases:
            return True
        try:
            return isinstance(name, str) and self._member(name) is not None
        except ConfigError:
            return False

    def __iter__(self) -> Iterator[str]:
        return iter(self._targets)

    def __len__(self) -> int:
        return len(self._targets)

    def __repr__(self) -> str:
        return f"Registry({', '.join(self._targets)})"


def _imported(target: str) -> Any:
    module, attribute = target.split(":")
    return getattr(importlib.import_module(module), attribute)
