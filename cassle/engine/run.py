"""What is run, under which name, and where it is kept."""

from __future__ import annotations

from pathlib import Path

from cassle.checks import Whole
from cassle.errors import ConfigError

SEED = 5  # the default: the only one that is not part of an experiment's name


class Run:
    """What is trained, under which name, and where it is kept."""

    def __init__(
        self,
        *,
        method: str = "barlow_twins",
        distiller: str | None = None,
        strategy: str = "finetune",
        memory: str | None = None,
        backbone: str = "resnet18",
        seed: int = SEED,
        name: str | None = None,
        experiment_dir: Path | None = None,
        base_experiment_dir: Path = Path("experiments"),
        overwrite: bool = False,
        reshard: bool = False,
        task_idx: Whole = 0,
        pretrained_model: Path | None = None,
    ) -> None:
        """Describe the run.

        Args:
            method: self-supervised objective; python -m cassle list shows them all.
            distiller: distillation from task 1 on: auto = the one that fits the method, or one of python -m cassle
                list; default: none, plain fine-tuning.
            strategy: a further way not to forget: er, lump, …; several at once: er+si; python -m cassle list shows all.
            memory: what the strategy keeps of the past: fifo, reservoir, minred, …; default: the strategy's own.
            backbone: the encoder: one of python -m cassle list, or timm/NAME (--encoder is the same flag).
            seed: seed of weights, order and augmentation.
            name: name of the experiment, and of its folder; default: METHOD[-DISTILLER][-STRATEGY]-DATASET, with
                another seed than the default METHOD[-DISTILLER][-STRATEGY]-DATASET-seedSEED.
            experiment_dir: folder of the experiment: a name below base_experiment_dir, or a path; default: the name.
            base_experiment_dir: folder that holds the folders of experiments.
            overwrite: start anew; an existing folder is moved aside.
            reshard: continue with another number of processes than before, all of which together take as many images
                at a time as before: what they hold is dealt anew, and the rest is not byte-equal any more.
            task_idx: task to start with: 0, or 1 to take over a trained task 0 (then give pretrained_model).
            pretrained_model: with task_idx 0, weights that the encoder starts from (of this library, torchvision, timm,
                solo-learn, or CaSSLe); with task_idx 1, the checkpoint of the trained task 0.

        Raises:
            ConfigError: the name is not a plain one.
        """
        if name is not None and (Path(name).name != name or name in {"", ".", ".."}):
            raise ConfigError(f"--name {name}: must be a plain name without path separators; use --experiment_dir too.")
        self.seed, self.overwrite, self.reshard = seed, overwrite, reshard
        self.name, self.experiment_dir, self.base_experiment_dir = name, experiment_dir, base_experiment_dir
        self.task_idx, self.pretrained_model = task_idx, pretrained_model

    def start_problems(self) -> list[str]:
        """Return why the run cannot start where it is told to; one sentence each."""
        if self.task_idx > 1:  # the accuracy matrix would lack the rows of the tasks before
            return [
                f"--task_idx {self.task_idx}: must be 0, or 1 to take over a trained task 0; a run that was stopped "
                "continues by its own command."
            ]
        if self.task_idx == 1 and self.pretrained_model is None:
            return ["--task_idx 1: needs --pretrained_model CHECKPOINT, the trained task 0; or leave --task_idx out."]
        return []
