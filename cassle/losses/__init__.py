"""Objectives as pure functions: tensors in, a scalar out."""

from cassle.losses.barlow_twins import barlow_twins
from cassle.losses.byol import byol
from cassle.losses.contrastive_distillation import contrastive_distillation
from cassle.losses.distributed import gather_with_gradient
from cassle.losses.simclr import nt_xent

__all__ = ["barlow_twins", "byol", "contrastive_distillation", "gather_with_gradient", "nt_xent"]
