"""Translation supernets: HAT's and a small one."""

from supernets.hat import sizes as sizes  # registers the named sizes
from supernets.hat.checkpoint import load_hat_checkpoint, load_hat_state
from supernets.hat.network import TranslationTransformer
from supernets.hat.supernet import HatSupernet

__all__ = ["HatSupernet", "TranslationTransformer", "load_hat_checkpoint", "load_hat_state"]
