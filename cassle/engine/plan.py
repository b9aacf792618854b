"""From flat settings to the components of a run; every problem is found before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from cassle.data import STREAMED
from cassle.data.engines import Engine
from cassle.data.engines import choose as choose_engine
from cassle.data.iterators import Source
from cassle.data.module import TaskData, TaskImages
from cassle.data.orders import Order
from cassle.data.recipe import Augmentation, Recipe
from cassle.data.room import room_for, room_unasked
from cassle.data.stream_settings import StreamData
from cassle.data.streams import Stream
from cassle.engine.agreement import model_problems, settings_problems
from cassle.engine.checkpoint import load
from cassle.engine.choice import Choice, choose, known_settings, model_class, schema_for
from cassle.engine.folder import ExperimentFolder
from cassle.engine.foreign import is_upstream
from cassle.engine.idle import idle_notes
from cassle.engine.missing import missing_here
from cassle.engine.run import SEED, Run
from cassle.engine.settings import canonical_names, plain
from cassle.engine.timetable import Timetable
from cassle.engine.trainer import Training
from cassle.engine.wandb_run import WandB
from cassle.errors import ConfigError
from cassle.evaluation.online import OnlineProbe
from cassle.evaluation.protocol import Evaluation
from cassle.memory import MEMORIES
from cassle.memory.minred import degenerates
from cassle.methods.base import SSLMethod
from cassle.nn import BACKBONES
from cassle.nn.resnet import SMALL_IMAGE
from cassle.optim.build import Optimization
from cassle.randomness import key


class Plan:
    """The components of a run, built from flat settings.

    Args:
        values: settings by name; the others have their defaults.
        source: of ``--dataset iterator``, the images that Python code has handed in.

    Raises:
        ConfigError: everything that is wrong with the settings, together.
    """

    def __init__(self, values: Mapping[str, Any], source: Source | None = None) -> None:
        self.source = source
        self._opened: Stream | None = None  # over files: looking at all of them takes a while
        values = canonical_names(values)
        self.choice = self._choose(values)
        self.method, self.distiller, self.strategy, self.memory, self.backbone, _ = self.choice
        values = {**values, **{flag: name for flag, (_, name) in self.choice.parts.items()}}
        self.schema = schema_for(self.choice)
        self.values, self.problems = self.schema.read(values)  # go on with the rest: its problems are told too
        self.run = self._build(Run)
        self.data = self._build(TaskData)
        self.stream = self._build(StreamData)
        self.augmentation = self._build(Augmentation)
        self.optimization = self._build(Optimization)
        self.training = self._build(Training)
        self.online = self._build(OnlineProbe)
        self.evaluation = self._build(Evaluation)
        self.wandb = self._build(WandB)
        self.evaluation_data = self._evaluation_data()
        self.problems += settings_problems(self)
        if not self.problems:
            try:
                with torch.device("meta"):  # shapes without storage: what does not fit together is told now
                    model = self.build_model()
                self.problems += model_problems(self, model)
            except ConfigError as error:
                self.problems += error.problems
        if self.problems:
            raise ConfigError(self.problems)

    def _choose(self, values: Mapping[str, Any]) -> Choice:
        """Return the choice of components; if they are wrong, tell what is wrong with the rest as well."""
        try:
            return choose(values)
        except ConfigError as error:
            left_out = {*Choice._fields, "dataset"}
            left_out |= known_settings() - {*schema_for(Choice()).names}  # maybe the flags of what is misspelt
            rest = {name: value for name, value in values.items() if name not in left_out}
            try:
                Plan({**rest, "dataset": "custom", "data_dir": rest.get("data_dir", ".")})
            except ConfigError as other:
                raise ConfigError([*error.problems, *other.problems]) from None
            raise

    def _build(self, component: type) -> Any:
        try:
            return component(**self.schema.arguments(component, self.values))
        except ConfigError as error:
            self.problems += error.problems
            return None

    def _evaluation_data(self) -> TaskData | None:
        """Return the data set on which a stream without labels is evaluated."""
        if self.data is None or self.stream is None:
            return None
        try:
            return self.stream.evaluation_data(self.data)
        except ConfigError as error:
            self.problems += error.problems
            return None

    @property
    def streamed(self) -> bool:
        """Whether the data set exists as a stream only."""
        return self.data.dataset in STREAMED

    @property
    def is_stream(self) -> bool:
        """Whether samples arrive as a stream, without tasks and epochs."""
        return self.streamed or self.stream.stream != "none"

    @property
    def name(self) -> str:
        """Name of the experiment."""
        ways = [self.distiller, self.strategy if self.strategy != "finetune" else None]
        ways += [f"stream_{self.stream.stream}"] if self.stream.stream != "none" else []
        parts = [self.method, *(way for way in ways if way), self.data.dataset]
        parts += [f"seed{self.run.seed}"] if self.run.seed != SEED else []
        return self.run.name or "-".join(parts)

    @property
    def folder(self) -> Path:
        """Folder of the experiment: a name lies below ``--base_experiment_dir``, a path stands for itself."""
        chosen = self.run.experiment_dir or Path(self.name)
        return chosen if len(chosen.parts) > 1 else self.run.base_experiment_dir / chosen

    @cached_property
    def recipes(self) -> tuple[Recipe, ...]:
        """One recipe per view."""
        benchmark = self.data.benchmark
        return self.augmentation.recipes(size=benchmark.image_size, mean=benchmark.mean, std=benchmark.std)

    @property
    def size(self) -> int:
        """Side of the largest view, and of the evaluation view, in pixels."""
        return max(recipe.size for recipe in self.recipes)

    @property
    def eval_recipe(self) -> Recipe:
        """The recipe that the evaluation view takes its size and statistics from."""
        return max(self.recipes, key=lambda recipe: recipe.size)

    def config(self) -> dict[str, Any]:
        """Return every setting as plain data."""
        return plain(self.values)

    def build_model(self, side: int | None = None) -> SSLMethod:
        """Return a freshly initialised model; the same for the same seed, with or without a distiller.

        Args:
            side: of the images themselves that a memory keeps, in pixels; None: it keeps their positions.
        """
        kind = model_class(self.method, self.distiller, self.strategy)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key(self.run.seed, "init"))
            make = BACKBONES[self.backbone]
            backbone = make(self.size, **self.schema.arguments(make, self.values))
            model = kind(backbone, self.optimization, **self.schema.arguments(kind, self.values))
            if self.memory:
                memory = MEMORIES[self.memory]
                own, shape = self.schema.arguments(memory, self.values), None if side is None else (3, side, side)
                model.memory = memory(model.mem_size, model.stored_dim, shape, **own)
                if side is not None:
                    model.memory.deal(self.training.rank, self.training.processes)
        return model.to(memory_format=torch.channels_last) if self.training.channels_last else model

    def timetable(self) -> Timetable:
        """Return the course of a stream, without its pixels.

        Raises:
            ConfigError: the stream is too short, or has no end.
            DataError: files are missing or damaged.
        """
        if self.streamed:
            return self.timetable_of(self.open_stream(None))
        first, split = self.data.parts()[0], self.data.split()
        return self.timetable_of(self.stream.order(first.source.targets, split.train, self.run.seed))

    def timetable_of(self, stream: Stream | Order) -> Timetable:
        """Return the course of a run over this stream."""
        whole = self.training.batch_size * self.training.processes
        return Timetable(
            self.stream, length=stream.length, bounds=stream.bounds, whole=whole, num_splits=self.data.num_tasks
        )

    def open_stream(self, images: TaskImages | None) -> Stream:
        """Return the stream of the run: over loaded images, or over files."""
        if self._opened is None or images is not None:
            self._opened = self.stream.open(self.data, images, size=self.size, seed=self.run.seed, source=self.source)
        return self._opened

    def engine_begun(self) -> str | None:
        """Return the engine of the experiment that lies in the folder and is continued; None without one."""
        begun = None if self.run.overwrite else ExperimentFolder(self.folder).manifest()
        return (begun or {}).get("engine")

    def choose_engine(self) -> Engine:
        """Return who makes the views of the training: as the experiment began, or as it suits.

        Raises:
            ConfigError: the engine that was asked for cannot be had.
            DataError: the data must lie in memory and does not fit; or it is missing.
        """
        where = self.training.device, self.training.per_node
        rooms = room_for(*where), room_unasked(*where)
        return choose_engine(self.data, self.size, where[0], *rooms, stream=self.is_stream, begun=self.engine_begun())

    def notes(self) -> list[str]:
        """Return what is allowed, but may not be meant; one sentence each."""
        notes, warm_up = [], self.optimization.warmup_epochs
        if self.optimization.scheduler == "warmup_cosine" and warm_up >= self.training.max_epochs:
            notes.append(
                f"Note: --warmup_epochs {warm_up:g} is not shorter than --max_epochs {self.training.max_epochs}: the "
                "learning rate rises to the end of every task."
            )
        updates = self.stream.num_updates if self.is_stream else 1
        if "feature_on_arrival" in self.values and (warning := degenerates(updates, self.values["feature_on_arrival"])):
            notes.append(f"Note: {warning}")
        weights = self.run.pretrained_model
        if weights and self.values.get("stem_padding") == 1 and self.size <= SMALL_IMAGE and is_upstream(load(weights)):
            notes.append("Note: CaSSLe's own networks for small images were trained with --stem_padding 2, this has 1.")
        return [*notes, *idle_notes(self)]

    def missing_here(self) -> list[str]:
        """Return what this machine lacks: data, a checkpoint, a GPU. One sentence each."""
        return missing_here(self)
