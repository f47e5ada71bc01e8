"""Training of supernets: methods by name, one loop, exact resume."""

from supernets.training.checkpoint import has_checkpoint
from supernets.training.data import Batch, TrainingData
from supernets.training.distillation import counted, kl_loss, logits_of, soft_targets_loss
from supernets.training.errors import InvalidSettings, NonFiniteLoss, ResumeError, TrainingError, UnknownMethod
from supernets.training.evaluation import evaluate_subnet, settle_statistics, top1_score
from supernets.training.instatune import InstaTune
from supernets.training.loop import prepare, train
from supernets.training.methods import (
    Method,
    Phase,
    list_methods,
    make_method,
    method_options,
    method_settings,
    orders_units,
    register_method,
)
from supernets.training.ordering import Rehearsal, rehearsal_steps, sort_units
from supernets.training.parallel import Alone, ProcessTeam, Team
from supernets.training.passes import Passes
from supernets.training.progress import RichProgress, TrainProgress
from supernets.training.progressive_shrinking import ProgressiveShrinking
from supernets.training.report import TrainReport
from supernets.training.sampling import sample_subnets
from supernets.training.sandwich import Sandwich
from supernets.training.settings import TrainSettings
from supernets.training.single_path import SinglePath

__all__ = [
    "Alone",
    "Batch",
    "InstaTune",
    "InvalidSettings",
    "Method",
    "NonFiniteLoss",
    "Passes",
    "Phase",
    "ProcessTeam",
    "ProgressiveShrinking",
    "Rehearsal",
    "ResumeError",
    "RichProgress",
    "Sandwich",
    "SinglePath",
    "Team",
    "TrainProgress",
    "TrainReport",
    "TrainSettings",
    "TrainingData",
    "TrainingError",
    "UnknownMethod",
    "counted",
    "evaluate_subnet",
    "has_checkpoint",
    "kl_loss",
    "list_methods",
    "logits_of",
    "make_method",
    "method_options",
    "method_settings",
    "orders_units",
    "prepare",
    "register_method",
    "rehearsal_steps",
    "sample_subnets",
    "settle_statistics",
    "soft_targets_loss",
    "sort_units",
    "top1_score",
    "train",
]
