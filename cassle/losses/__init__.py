"""Objectives as pure functions: tensors in, a scalar out."""

from cassle.losses.barlow_twins import barlow_twins
from cassle.losses.byol import byol
from cassle.losses.contrastive_distillation import contrastive_distillation
from cassle.losses.deepcluster import deepcluster
from cassle.losses.dino import dino
from cassle.losses.distributed import gather_with_gradient
from cassle.losses.emp_ssl import emp_ssl, total_coding_rate
from cassle.losses.info_nce import info_nce
from cassle.losses.labelled import labelled_cross_entropy
from cassle.losses.lejepa import lejepa, sigreg
from cassle.losses.mae import mae
from cassle.losses.moco import moco_info_nce
from cassle.losses.nnclr import nnclr
from cassle.losses.ressl import ressl
from cassle.losses.simclr import nt_xent
from cassle.losses.simsiam import simsiam
from cassle.losses.soft_label import soft_label
from cassle.losses.supcon import supcon
from cassle.losses.swav import sinkhorn, swav
from cassle.losses.vicreg import vicreg
from cassle.losses.wmse import wmse

__all__ = [
    "barlow_twins",
    "byol",
    "contrastive_distillation",
    "deepcluster",
    "dino",
    "emp_ssl",
    "gather_with_gradient",
    "info_nce",
    "labelled_cross_entropy",
    "lejepa",
    "mae",
    "moco_info_nce",
    "nnclr",
    "nt_xent",
    "ressl",
    "sigreg",
    "simsiam",
    "sinkhorn",
    "soft_label",
    "supcon",
    "swav",
    "total_coding_rate",
    "vicreg",
    "wmse",
]
