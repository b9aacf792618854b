"""What has changed about the data of an experiment that is continued, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OTHERS = "pixels, labels, names or sizes of files are others"
SHOWN = 5  # names or tasks that are listed of one kind
SAID = {"tasks", "classes", "sha256", "content_sha256", "parts", "length", "origins"}  # in words of their own
LOST = {
    "in_quarantine": "are in quarantine", "do_not_decode": "do not decode",
    "not_for_the_engine": "the engine does not read",
}  # fmt: skip

Manifest = Mapping[str, Any]


def changes(old: Manifest, new: Manifest) -> list[str]:
    """Return what the data was and what it is now, one line per matter; nothing if it is the same.

    Args:
        old: what ``cassle.data.manifest`` says of the data that the experiment began with, or of a stream its
            ``length``, ``origins`` and ``content_sha256``; earlier versions did not write ``parts``.
        new: the same of the data that is there now.
    """
    told = {name for name in {**old, **new} if name != "parts" and old.get(name) != new.get(name)}
    if not told:
        return []
    lines = [f"{name}: {old.get(name)} then, {new.get(name)} now" for name in new if name in told - SAID]
    if "length" in new:
        lines += _of_the_stream(old, new)
    else:
        lines += _of_the_classes(old.get("classes", []), new.get("classes", []))
        lines += [line for part in ("train", "val") if (line := _of_a_part(part, old, new))]
    if not lines:
        what = OTHERS if "content_sha256" in told else "they fall to other tasks"
        lines = [f"train or val: as many images as before, but {what}"]
    return lines


def _of_the_stream(old: Manifest, new: Manifest) -> list[str]:
    lines = [
        f"{what}: {old.get(name)} then, {new[name]} now"
        for name, what in (("length", "samples of the stream"), ("origins", "videos, folders or classes"))
        if old.get(name) != new[name]
    ]
    if old.get("content_sha256") != new["content_sha256"] and not lines:
        lines = ["stream: as long as before, but its files, their order, or its list are others"]
    return lines


def _of_the_classes(old: list[str], new: list[str]) -> list[str]:
    if old == new:
        return []
    kinds = (("new", [name for name in new if name not in old]), ("gone", [name for name in old if name not in new]))
    said = [f"{_listed(names)} {'is' if len(names) == 1 else 'are'} {how}" for how, names in kinds if names]
    return [f"classes: {len(old)} then, {len(new)} now; {'; '.join(said) or 'they come in another order'}"]


def _of_a_part(part: str, old: Manifest, new: Manifest) -> str:
    """Return what has changed about train or val, as far as both manifests know; empty if nothing is known."""
    then, now = (manifest.get("parts", {}).get(part) for manifest in (old, new))
    known, said = "parts" in old and "parts" in new, []
    if known and (then is None or now is None):
        return "" if then is now else f"{part}: {_size(then)} then, {_size(now)} now"
    if known and then["images"] != now["images"]:
        said.append(f"{_size(then)} then, {now['images']} now")
    counts = [[task[part] for task in manifest.get("tasks", [])] for manifest in (old, new)]
    if len(counts[0]) == len(counts[1]):
        pairs = enumerate(zip(*counts, strict=True))
        said += _some([f"task {task} had {a}, has {b}" for task, (a, b) in pairs if a != b])
    if known:
        lost = {what: (then.get(kind, 0), now.get(kind, 0)) for kind, what in LOST.items()}  # earlier: no quarantine
        said += [f"{a} that {what} then, {b} now" for what, (a, b) in lost.items() if a != b]
        if then["content_sha256"] != now["content_sha256"] and then["images"] == now["images"]:
            said.insert(0, f"{_size(now)} as before, but {OTHERS}")
    return f"{part}: {'; '.join(said)}" if said else ""


def _size(part: Mapping[str, Any] | None) -> str:
    return "none" if part is None else f"{part['images']} image{'s' * (part['images'] != 1)}"


def _listed(names: list[str]) -> str:
    return ", ".join(_some([repr(name) for name in names]))


def _some(items: list[str]) -> list[str]:
    return [*items[:SHOWN], *([f"… and {len(items) - SHOWN} more"] if len(items) > SHOWN else [])]
