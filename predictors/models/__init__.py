"""The predictors that ship with the package; importing this registers them. Their libraries load when they fit."""

from predictors.models.auto import Auto
from predictors.models.gp import GP
from predictors.models.mlp import MLP
from predictors.models.ridge import Ridge
from predictors.models.stack import Stack
from predictors.models.svr import SVR
from predictors.models.table import TablePredictor
from predictors.models.xgb import XGBoost

__all__ = ["GP", "MLP", "SVR", "Auto", "Ridge", "Stack", "TablePredictor", "XGBoost"]
