"""The folder of an experiment: who may write into it, and whether what lies there is the same experiment."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from cassle.atomic import atomic_write_text
from cassle.engine import reshard
from cassle.engine.changes import changes
from cassle.engine.ledger import Ledger
from cassle.errors import CassleError, ConfigError
from cassle.locks import held

#: settings that do not change a result: they may differ when a run is continued. The data, by whatever lists, and
#: --pretrained_model are compared by content instead.
FREE = {
    "name", "experiment_dir", "base_experiment_dir", "overwrite", "reshard", "data_dir", "train_list", "val_list",
    "stream_file", "verified_dir", "download", "num_workers", "prefetch", "checkpoint_frequency",
    "checkpoint_minutes", "wandb", "project", "entity", "offline", "pretrained_model",
}  # fmt: skip
#: what changes the order in which numbers are added, and no more: it must not differ while there is something to train
SUMS = {"num_threads"}


def fingerprint(config: Mapping[str, Any]) -> str:
    """Return a hash over the settings that determine the results."""
    fixed = {name: value for name, value in sorted(config.items()) if name not in FREE}
    fixed["gpus"] = len(config.get("gpus") or [])  # how many, not which
    return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:16]


def _why(name: str) -> str:
    return (
        " (they set the order of sums, so that the rest would not be what it would have been)" if name in SUMS else ""
    )


class ExperimentFolder:
    """A folder that holds one experiment.

    Args:
        path: the folder; made by :meth:`claim`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_file = path / "config.yaml"
        self.split_file = path / "split.json"

    def task(self, index: int) -> Path:
        """Return the folder of a task."""
        return self.path / f"task{index}"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder: a second run in it is refused.

        Raises:
            CassleError: another process holds it, or it cannot be written.
        """
        with ExitStack() as stack:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                stack.enter_context(held(self.path / ".lock", wait=False))
            except BlockingIOError as error:
                raise CassleError(
                    f"{self.path}: another run (process {error}) is writing here. Wait for it, stop it, or choose "
                    "another --experiment_dir."
                ) from None
            except OSError as error:
                raise CassleError(
                    f"--experiment_dir {self.path}: cannot be written ({error.strerror}). Choose another folder with "
                    "--experiment_dir or --base_experiment_dir."
                ) from error
            yield

    def move_aside(self) -> Path | None:
        """Move an existing experiment to ``<folder>.old-N``; return where it is now, None if there was none."""
        if not self.config_file.exists():
            return None
        n = 1
        while (target := self.path.with_name(f"{self.path.name}.old-{n}")).exists():
            n += 1
        self.path.rename(target)
        return target

    def claim(self, config: Mapping[str, Any], *, resharding: bool = False) -> bool:
        """Write the configuration, or check that the one that is there is the same; return whether to continue a run.

        With ``resharding`` the processes may differ, see ``cassle.engine.reshard``; nothing is written then.

        Raises:
            ConfigError: the folder holds another experiment; lists the settings that differ.
        """
        if self.config_file.exists():
            self._compare(config, resharding)
            return True
        self.write(config)
        return False

    def write(self, config: Mapping[str, Any]) -> None:
        """Write the configuration."""
        atomic_write_text(self.config_file, yaml.safe_dump(dict(config), sort_keys=False))

    def saved(self) -> dict[str, Any]:
        """Return the configuration that is there.

        Raises:
            CassleError: it is damaged.
        """
        try:
            saved = yaml.safe_load(self.config_file.read_text())
            if not isinstance(saved, dict):
                raise ValueError("not a mapping")
        except (ValueError, yaml.YAMLError) as error:
            raise CassleError(f"{self.config_file}: damaged ({error}). Start anew with --overwrite.") from error
        return saved

    def _compare(self, config: Mapping[str, Any], resharding: bool) -> None:
        saved, config = self._with_engine(self.saved()), self._with_engine(config)
        if fingerprint(saved) == fingerprint(config):
            return
        names = [n for n in {**saved, **config} if n not in FREE and saved.get(n) != config.get(n)]
        if self.is_finished():
            names = [n for n in names if n not in SUMS]
        refusal = None if resharding else reshard.refusal(saved, config)
        problems = [f"{self.path}: {refusal}"] if refusal else []
        if resharding or refusal:  # said in other words
            names = [n for n in names if n not in (*reshard.PLACES, *reshard.PER_PROCESS)]
            problems += reshard.problems(saved, config) if resharding else []
        if names:
            here = [(n, saved.get(n, "absent"), config.get(n, "absent")) for n in names]
            others = [f"\n  --{n}: {there} there, {now} now{_why(n)}" for n, there, now in here]
            problems.append(
                f"{self.path} holds an experiment with {len(names)} other setting{'s' * (len(names) > 1)}; give the "
                "same ones to continue it, another --experiment_dir or --name, or --overwrite to start anew (the old "
                f"folder is moved aside):{''.join(others)}"
            )
        if problems:
            raise ConfigError(problems)

    def is_finished(self) -> bool:
        """Return whether all parts of the training are done.

        Raises:
            CassleError: the ledger is damaged.
        """
        ledger = self.path / "ledger.json"
        return ledger.is_file() and all(record.status == "done" for record in Ledger(ledger, 0).tasks)

    def _with_engine(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return settings with the engine that ``auto`` has come to here, which is the same run.

        And with the device where DALI decodes, said or not; with another engine it is no matter.
        """
        begun = (self.manifest() or {}).get("engine")
        device = (config.get("dali_device") or "gpu") if begun in (None, "dali") else None
        engine = begun if begun and config.get("engine") == "auto" else config.get("engine")
        return {**config, "engine": engine, "dali_device": device}

    def manifest(self) -> dict[str, Any] | None:
        """Return the tasks and the data that the experiment began with; None if it begins now.

        Raises:
            CassleError: the file that keeps them is damaged.
        """
        if not self.split_file.is_file():
            return None
        try:
            manifest = json.loads(self.split_file.read_text())
            if not isinstance(manifest, dict):
                raise ValueError("not a mapping")
        except ValueError as error:
            raise self._damaged(error) from error
        return manifest

    def _damaged(self, error: Exception) -> CassleError:
        return CassleError(
            f"{self.split_file}: damaged ({error}). It says with which data this experiment began: bring it back, or "
            "start anew with --overwrite."
        )

    def keep(self, manifest: Mapping[str, Any], where: str = "--data_dir") -> None:
        """Write the tasks and the data of an experiment, or check that they are those that it began with.

        Args:
            manifest: what they are.
            where: the flags that say where the data is.

        Raises:
            ConfigError: they are not; says what has changed.
            CassleError: the file that keeps them is damaged.
        """
        old = self.manifest()
        try:
            changed = [] if old is None else changes(old, manifest)
        except (AttributeError, KeyError, TypeError) as error:
            raise self._damaged(error) from error
        if changed:
            lines = "".join(f"\n  {line}" for line in changed)
            raise ConfigError(
                f"{where}: the data has changed since this experiment began ({self.split_file} keeps what it was):"
                f"{lines}\nBring the old data back, or start anew with --overwrite."
            )
        atomic_write_text(self.split_file, json.dumps(manifest, indent=2) + "\n")
