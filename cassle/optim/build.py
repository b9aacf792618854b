"""Optimizer and schedule of a task, as one configuration component."""

from __future__ import annotations

from typing import Literal

import torch

from cassle.checks import Count, Momentum, NonNegative, Positive, Share, out_of_range
from cassle.errors import ConfigError
from cassle.optim.lars import LARS
from cassle.optim.schedule import SCHEDULES, exit_decay

TRIANGLE_PERIOD = 3000  # Continuous SSL's
WARMUP_START_LR = 0.003  # CaSSLe's, for SGD with rates of 0.3 and above


class Optimization:
    """The optimizer and the learning rate of every step; both start anew with each task."""

    def __init__(
        self,
        *,
        optimizer: Literal["sgd", "adam", "adamw"] = "sgd",
        lr: Positive = 0.3,
        weight_decay: NonNegative = 1e-4,
        momentum: Momentum = 0.9,
        lars: bool = False,
        eta_lars: Positive = 1e-3,
        grad_clip_lars: bool = False,
        exclude_bias_n_norm: bool = False,
        scheduler: Literal["warmup_cosine", "cosine", "step", "triangle", "none"] = "warmup_cosine",
        schedule_interval: Literal["step", "epoch"] = "step",
        warmup_epochs: NonNegative = 10,
        warmup_start_lr: NonNegative | None = None,
        min_lr: NonNegative = 0.0,
        lr_decay_steps: list[Count] | None = None,
        lr_decay_gamma: Positive = 0.1,
        triangle_lr: Positive | None = None,
        triangle_period: Count = TRIANGLE_PERIOD,
        exit_decay: Share = 0.0,
    ) -> None:
        """Describe the optimization.

        Args:
            optimizer: sgd (with momentum), adam, or adamw.
            lr: learning rate per 256 images: multiplied by (images per optimizer step) / 256.
            weight_decay: L2 penalty (decoupled for adamw).
            momentum: momentum of sgd.
            lars: scale each parameter's step by its norm (LARS); with sgd only.
            eta_lars: trust coefficient of LARS.
            grad_clip_lars: never let LARS raise a parameter's rate above the learning rate.
            exclude_bias_n_norm: 1-D parameters (biases, norms) get neither LARS nor weight decay.
            scheduler: warmup_cosine, cosine, step, triangle (from lr to triangle_lr and back), or none (constant).
            schedule_interval: change the rate every step, or every epoch (upstream).
            warmup_epochs: length of the warm-up, in epochs.
            warmup_start_lr: rate of the first step of the warm-up; not scaled by the batch size; default: 0.003, or 0
                where the peak is below that.
            min_lr: rate at the end of the cosine; not scaled by the batch size.
            lr_decay_steps: epochs at which the step schedule decays.
            lr_decay_gamma: factor of each decay of the step schedule.
            triangle_lr: highest rate of the triangle, per 256 images as lr.
            triangle_period: steps of a triangle, there and back.
            exit_decay: share of the training, at its end, in which the rate falls to 0 as half a cosine, whatever the
                scheduler.

        Raises:
            ConfigError: a value is out of range, or two settings contradict each other.
        """
        problems = [*out_of_range(Optimization, locals()).values()]
        if lars and optimizer != "sgd":
            problems.append(f"--lars: works with --optimizer sgd, not {optimizer}; remove one of the two.")
        if scheduler == "step" and not lr_decay_steps:
            problems.append("--scheduler step: needs --lr_decay_steps, epochs at which the rate decays, e.g. 60 80.")
        if (scheduler == "triangle") != (triangle_lr is not None):
            problems.append("--triangle_lr: goes with --scheduler triangle; give both, or none.")
        if scheduler != "triangle" and triangle_period != TRIANGLE_PERIOD:
            problems.append(f"--triangle_period {triangle_period}: is for --scheduler triangle; leave it out.")
        if problems:
            raise ConfigError(problems)
        self.triangle_lr, self.triangle_period, self.exit_decay = triangle_lr, triangle_period, exit_decay
        self.optimizer, self.lr, self.weight_decay, self.momentum = optimizer, lr, weight_decay, momentum
        self.lars, self.eta_lars, self.grad_clip_lars = lars, eta_lars, grad_clip_lars
        self.exclude_bias_n_norm = exclude_bias_n_norm
        self.scheduler, self.schedule_interval = scheduler, schedule_interval
        self.warmup_epochs, self.warmup_start_lr, self.min_lr = warmup_epochs, warmup_start_lr, min_lr
        self.lr_decay_steps, self.lr_decay_gamma = lr_decay_steps or [], lr_decay_gamma
        self.images_per_step = 256

    @property
    def scaled_lr(self) -> float:
        """The peak learning rate of an optimizer step over ``images_per_step`` images."""
        return self.lr * self.images_per_step / 256

    @property
    def first_lr(self) -> float:
        """The learning rate at which the warm-up starts."""
        if self.warmup_start_lr is not None:
            return self.warmup_start_lr
        return WARMUP_START_LR if self.scaled_lr > WARMUP_START_LR else 0.0

    def warm_up_problems(self) -> list[str]:
        """Return what is wrong with the ends of the schedule, once ``images_per_step`` is known; one sentence each."""
        peak = f"above the peak learning rate {self.scaled_lr:.3g} (= --lr {self.lr} x {self.images_per_step} / 256)"
        problems = []
        if self.scheduler == "warmup_cosine" and self.warmup_epochs and self.first_lr > self.scaled_lr:
            problems.append(f"--warmup_start_lr {self.warmup_start_lr}: {peak}; give a smaller one, e.g. 0.")
        if self.scheduler in ("warmup_cosine", "cosine") and self.min_lr > self.scaled_lr:
            problems.append(f"--min_lr {self.min_lr}: {peak}; give a smaller one, e.g. 0.")
        return problems

    def build(self, groups: list[dict]) -> torch.optim.Optimizer:
        """Build the optimizer over parameter groups.

        A group's ``lr_scale`` (default 1) multiplies its learning rate; with ``constant_lr`` (default false) the rate
        stays at its peak instead of following the schedule.
        """
        groups = [part for group in groups for part in self._without_decay_on_1d(group)]
        lr, wd = self.scaled_lr, self.weight_decay
        if self.lars:
            return LARS(
                groups, lr=lr, momentum=self.momentum, weight_decay=wd, eta=self.eta_lars, clip_lr=self.grad_clip_lars,
                exclude_bias_n_norm=self.exclude_bias_n_norm,
            )  # fmt: skip
        if self.optimizer == "sgd":
            return torch.optim.SGD(groups, lr=lr, momentum=self.momentum, weight_decay=wd, foreach=True)
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[self.optimizer]
        return kind(groups, lr=lr, weight_decay=wd, foreach=True)

    def _without_decay_on_1d(self, group: dict) -> list[dict]:
        group = {"lr_scale": 1.0, "constant_lr": False, **group}
        if not self.exclude_bias_n_norm or self.lars:  # LARS makes the exclusion itself
            return [group]
        parts = [[p for p in group["params"] if (p.ndim == 1) == flat] for flat in (False, True)]
        return [
            {**group, "params": params, **({"weight_decay": 0.0} if flat else {})}
            for flat, params in enumerate(parts)
            if params
        ]

    def lr_at(self, step: int, total_steps: int, steps_per_epoch: int) -> float:
        """Return the learning rate of optimizer step ``step`` (from 0) of ``total_steps``."""
        if self.schedule_interval == "epoch":
            step = step // steps_per_epoch * steps_per_epoch
        settings = {
            "warmup_cosine": {
                "total_steps": total_steps,
                "warmup_steps": round(self.warmup_epochs * steps_per_epoch),
                "min_lr": self.min_lr,
                "warmup_start_lr": self.first_lr,
            },
            "cosine": {"total_steps": total_steps, "min_lr": self.min_lr},
            "step": {
                "decay_steps": [epoch * steps_per_epoch for epoch in self.lr_decay_steps],
                "gamma": self.lr_decay_gamma,
            },
            "triangle": {
                "max_lr": (self.triangle_lr or self.lr) * self.images_per_step / 256,
                "period": self.triangle_period,
            },
            "none": {},
        }[self.scheduler]
        factor = exit_decay(step, total_steps=total_steps, share=self.exit_decay)
        return factor * SCHEDULES[self.scheduler](step, lr=self.scaled_lr, **settings)

    def set_lr(self, optimizer: torch.optim.Optimizer, step: int, total_steps: int, steps_per_epoch: int) -> None:
        """Set the learning rate of every parameter group for optimizer step ``step``."""
        lr = self.lr_at(step, total_steps, steps_per_epoch)
        for group in optimizer.param_groups:
            group["lr"] = (self.scaled_lr if group["constant_lr"] else lr) * group["lr_scale"]
