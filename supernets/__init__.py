"""Weights for every point of a search space: elastic networks, their families, loading and saving."""

from search_spaces.errors import InvalidArchitecture
from supernets import experts as experts  # registers its adapter
from supernets import hat as hat  # registers its sizes
from supernets import mobilenetv3 as mobilenetv3  # registers its sizes
from supernets import transformer as transformer  # registers its adapters
from supernets.base import Architecture, Inputs, Supernet, call, inputs_to
from supernets.blocks import Block, BlockSlot, blocks_of
from supernets.errors import CheckpointError, SupernetError, UnknownFamily, UnsupportedModel
from supernets.registry import (
    Adapter,
    build,
    conversion_spaces,
    convert,
    families_with_blocks,
    list_supernets,
    observing_family,
    register_adapter,
    register_family,
    register_supernet,
    supernet_options,
    wants_calibration,
    wants_training,
)
from supernets.serialization import from_payload, load, save, to_payload

__all__ = [
    "Adapter",
    "Architecture",
    "Block",
    "BlockSlot",
    "CheckpointError",
    "Inputs",
    "InvalidArchitecture",
    "Supernet",
    "SupernetError",
    "UnknownFamily",
    "UnsupportedModel",
    "blocks_of",
    "build",
    "call",
    "conversion_spaces",
    "convert",
    "families_with_blocks",
    "from_payload",
    "inputs_to",
    "list_supernets",
    "load",
    "observing_family",
    "register_adapter",
    "register_family",
    "register_supernet",
    "save",
    "supernet_options",
    "to_payload",
    "wants_calibration",
    "wants_training",
]
