"""MobileNetV3 supernets: Once-for-All's and a tiny one."""

from supernets.mobilenetv3 import sizes as sizes  # registers the named sizes
from supernets.mobilenetv3.checkpoint import load_ofa_checkpoint, load_ofa_state
from supernets.mobilenetv3.layout import MobileNetV3Layout, StageLayout
from supernets.mobilenetv3.static import build_static
from supernets.mobilenetv3.supernet import MobileNetV3Supernet

__all__ = [
    "MobileNetV3Layout",
    "MobileNetV3Supernet",
    "StageLayout",
    "build_static",
    "load_ofa_checkpoint",
    "load_ofa_state",
]
