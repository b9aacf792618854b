"""Settings that have no part in a run: a note says so, for nothing that is asked for is ignored in silence."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cassle.engine.plan import Plan


class Part(NamedTuple):
    """Settings, and the runs in which they have a part: in words, and as a test."""

    names: tuple[str, ...]
    words: str
    holds: Callable[[Plan], bool]


def _schedule(*names: str) -> Callable[[Plan], bool]:
    return lambda plan: plan.optimization.scheduler in names


def _labelled(plan: Plan) -> bool:
    return not plan.online.disabled


PARTS = (
    Part(("eta_lars", "grad_clip_lars"), "--lars", lambda plan: plan.optimization.lars),
    Part(("momentum",), "--optimizer sgd", lambda plan: plan.optimization.optimizer == "sgd"),
    Part(("lr_decay_steps", "lr_decay_gamma"), "--scheduler step", _schedule("step")),
    Part(("warmup_epochs", "warmup_start_lr"), "--scheduler warmup_cosine", _schedule("warmup_cosine")),
    Part(("min_lr",), "--scheduler warmup_cosine and cosine", _schedule("warmup_cosine", "cosine")),
    Part(
        ("small_crop_size", "min_scale_small", "max_scale_small"),
        "--num_small_crops 1 or more",
        lambda plan: plan.augmentation.num_small_crops > 0,
    ),
    Part(
        ("train_dir", "val_dir", "verified_dir"),
        "data sets in image files",
        lambda plan: not plan.streamed and plan.data.in_files,
    ),
    Part(
        ("schedule_interval",),
        "a --scheduler other than none",
        _schedule("warmup_cosine", "cosine", "step", "triangle"),
    ),
    Part(("domain_aware",), "--split_strategy domain", lambda plan: plan.data.split_strategy == "domain"),
    Part(("project", "entity"), "--wandb or --offline", lambda plan: plan.wandb.enabled),
    Part(("knn_k", "knn_temperature"), "the kNN probe", lambda plan: not plan.evaluation.disable_knn_eval),
    Part(("few_label_draws",), "--few_labels 1 or more", lambda plan: plan.evaluation.few_labels > 0),
    Part(
        ("linear_l2", "linear_max_iter"), "the linear probe", lambda plan: not plan.evaluation.disable_linear_eval
    ),
    Part(
        (
            "momentum_classifier", "classifier_lr", "online_eval_batch_size", "online_eval_data",
            "check_val_every_n_epoch",
        ),
        "the online probe",
        _labelled,
    ),
)  # fmt: skip


def idle_notes(plan: Plan) -> list[str]:
    """Return a sentence for every setting that was changed and has no part in the run.

    Args:
        plan: the run; its components are there.
    """
    defaults = plan.schema.defaults()
    return [
        f"Note: --{name} {plan.values[name]} has no part in this run; it is for {part.words}."
        for part in PARTS
        for name in part.names
        if name in plan.values and plan.values[name] != defaults[name] and not part.holds(plan)
    ]
