"""The predictors that ship with the package; importing this registers them. Their libraries load when they fit."""

from predictors.models.auto import Auto
from predictors.models.mlp import MLP
from predictors.models.ridge import Ridge
from predictors.models.svr import SVR
from predictors.models.xgb import XGBoost

__all__ = ["MLP", "SVR", "Auto", "Ridge", "XGBoost"]
