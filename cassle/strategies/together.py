"""Several strategies in one run: ``--strategy er+si``."""

from __future__ import annotations

from functools import cache
from itertools import combinations
from typing import Any

from cassle.errors import ConfigError
from cassle.methods.base import SSLMethod
from cassle.registry import Registry
from cassle.strategies.base import Strategy

AND = "+"


class Strategies(Registry):
    """The strategies by name, and any of them together, joined by ``+``; the last of the list wraps the others."""

    def canonical(self, name: str) -> str:
        """Return the listed names that ``name`` stands for, each once, in the order of the list.

        Raises:
            ConfigError: a name is unknown, or two do not go together.
        """
        parts = [part.strip() for part in name.split(AND)]
        if not all(parts):
            raise ConfigError(f"--strategy {name}: a name is missing beside the +; e.g. er+si.")
        names = {super(Strategies, self).canonical(part) for part in parts}
        listed = [known for known in self if known in names]
        several = [known for known in listed if known != "finetune"]  # nothing beside something
        if len(several) < 2:
            return (several or listed)[0]
        for a, b in combinations(several, 2):
            if reason := _apart(super().__getitem__(a), super().__getitem__(b)):
                raise ConfigError(f"--strategy {a}{AND}{b}: {reason}")
        return AND.join(several)

    def __getitem__(self, name: str) -> Any:
        kinds = tuple(super(Strategies, self).__getitem__(part) for part in self.canonical(name).split(AND))
        return kinds[0] if len(kinds) == 1 else together(kinds)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and all(super(Strategies, self).__contains__(part) for part in name.split(AND))


def _apart(a: type[Strategy], b: type[Strategy]) -> str | None:
    """Return why two strategies cannot be had together, None if they can."""
    if a.memories and b.memories:
        return "both keep a memory, and a run has one; take one of them."
    shared = [base for base in a.__mro__ if issubclass(b, base) and base not in Strategy.__mro__]
    return f"both {shared[0].alone}; take one of them." if shared else None


@cache
def together(kinds: tuple[type[Strategy], ...]) -> type[Strategy]:
    """Return the strategy that does what all of these do; the later ones wrap the earlier ones."""
    keeper = next((kind for kind in kinds if kind.memories), kinds[0])

    def refuses(cls: type[Strategy], method: type[SSLMethod], distiller: str | None) -> str | None:
        return next((reason for kind in kinds if (reason := kind.refuses(method, distiller))), None)

    return type(
        "".join(kind.__name__ for kind in reversed(kinds)),
        tuple(reversed(kinds)),
        {
            "__doc__": " And: ".join(kind.__doc__.partition("\n")[0] for kind in kinds),
            "__module__": __name__,
            "transient": tuple(prefix for kind in kinds for prefix in kind.transient),
            "memories": keeper.memories,
            "default_memory": keeper.default_memory,
            "defaults": {name: value for kind in kinds for name, value in kind.defaults.items()},
            "reads_features": any(kind.reads_features for kind in kinds),
            "needs_tasks": any(kind.needs_tasks for kind in kinds),
            "trains_on_arrivals": all(kind.trains_on_arrivals for kind in kinds),
            "wants_labels": any(kind.wants_labels for kind in kinds),
            "refuses": classmethod(refuses),
        },
    )
