"""Putting a method and ways not to forget together."""

from __future__ import annotations

from cassle.methods.base import SSLMethod


def compose(*classes: type) -> type[SSLMethod]:
    """Return one class made of a method and any number of mixins, e.g. ``compose(BarlowTwins, Decorrelative)``.

    Args:
        classes: exactly one ``SSLMethod``, and mixins; a mixin that is named later wraps the earlier ones.

    Raises:
        TypeError: there is not exactly one method among the classes.
    """
    methods = [c for c in classes if issubclass(c, SSLMethod)]
    mixins = [c for c in classes if not issubclass(c, SSLMethod)]
    if len(methods) != 1:
        raise TypeError(f"compose() takes exactly one method and any mixins, got {[c.__name__ for c in classes]}")
    if not mixins:
        return methods[0]
    name = "".join(c.__name__ for c in reversed(mixins)) + methods[0].__name__
    transient = tuple(prefix for c in (*mixins, methods[0]) for prefix in c.transient)
    bases = (*reversed(mixins), methods[0])
    return type(name, bases, {"__doc__": methods[0].__doc__, "__module__": __name__, "transient": transient})
