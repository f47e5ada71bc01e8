"""Making a stock model elastic where its family's table says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from supernets.errors import SupernetError, UnsupportedModel
from supernets.transformer.depth import ElasticDepth, make_elastic_depth
from supernets.transformer.family import Dim, Family, Stack
from supernets.transformer.slices import Extent, Slice, SlicedModule, make_sliced


class WiredStack:
    """A stack of a model that has been made elastic.

    Attributes:
        table: What the family says of it.
        container: The layers.
        config: The configuration that sizes them; None of timm models.
        extents: Dimension -> the extent of each layer.
        per_unit: Dimension -> what one unit counts in genes: heads of a group, else 1.
        positions: How many active layers come before each layer, as extents.
        order: Layer indices, those that shallow subnets keep first.
        head_dim: Size of a head; 0 where heads are not elastic.
        layer_types: The configuration's type of each layer; empty where there are none.
    """

    def __init__(self, table: Stack, container: ElasticDepth, config: Any) -> None:
        self.table = table
        self.container = container
        self.config = config
        self.layers = container.all_layers()
        self.extents: dict[str, list[Extent]] = {}
        self.per_unit: dict[str, int] = {}
        self.order = list(range(len(self.layers)))
        self.positions = [Extent(len(self.layers)) for _ in self.layers]
        for name, dim in self._elastic_dims(config).items():
            full, self.per_unit[name] = self._units(name, dim, config)
            extents = [Extent(full)] * len(self.layers) if dim.shared else [Extent(full) for _ in self.layers]
            self.extents[name] = extents
        self.head_dim = self._head_dim(config)
        types = list(getattr(config, "layer_types", None) or [])
        self.layer_types = types if len(types) == len(self.layers) else []
        self._typed = config if len(set(self.layer_types)) > 1 else None
        self._wire()

    def _head_dim(self, config: Any) -> int:
        if "heads" not in self.extents or config is None:
            return 0
        columns = _at(self.layers[0], self.table.dims["heads"].columns[0])
        return _in_features(columns) // (self.extents["heads"][0].full * self.per_unit["heads"])

    def _elastic_dims(self, config: Any) -> dict[str, Dim]:
        dims = self.table.dims
        if self.table.fixed_heads_when and getattr(config, self.table.fixed_heads_when, False):
            dims.pop("heads", None)
        return dims

    def _units(self, name: str, dim: Dim, config: Any) -> tuple[int, int]:
        """Return the number of units and what one counts in genes."""
        if name == "ffn":
            return _in_features(_at(self.layers[0], dim.columns[0])), 1
        heads = int(
            _value(self.layers[0], self.table.n_heads) if config is None else getattr(config, self.table.n_heads)
        )
        groups = getattr(config, self.table.n_groups, None) if self.table.n_groups else None
        return (heads, 1) if groups is None else (int(groups), heads // int(groups))

    def _wire(self) -> None:
        for index, layer in enumerate(self.layers):
            for name, extents in self.extents.items():
                _slice_layer(layer, self.table.dims[name], extents[index])
            for module in layer.modules():
                # The place of a layer's keys and values in a cache is its place among the active layers.
                if type(module.__dict__.get("layer_idx")) is int:
                    make_sliced(module, {}, {"layer_idx": (self.positions[index], 1)})
        self.set_active(len(self.layers))

    @property
    def shape(self) -> dict[str, int]:
        """The largest value of each gene: ``depth`` and the dimensions."""
        return {"depth": len(self.layers), **{n: e[0].full * self.per_unit[n] for n, e in self.extents.items()}}

    def set_active(self, depth: int) -> None:
        """Run the first ``depth`` layers of the order, in the model's order."""
        self.run_layers(sorted(self.order[:depth]))

    def run_layers(self, indices: Sequence[int]) -> None:
        """Run the layers of these indices, ascending, each with its own type and its place in a cache."""
        for position, index in enumerate(indices):
            self.positions[index].active = position
        self.container.set_active(list(indices))
        if self._typed is not None:  # models look the type up by place among the layers that run
            rest = sorted(set(range(len(self.layers))) - set(indices))
            self._typed.layer_types = [self.layer_types[i] for i in [*indices, *rest]]

    def set_order(self, order: Sequence[int]) -> None:
        """Say which layers shallow subnets keep; the active depth stays to be set.

        Raises:
            SupernetError: Not a permutation of the layers, or the pinned ones do not come first.
        """
        pinned = list(range(self.table.pinned))
        if sorted(order) != list(range(len(self.layers))) or list(order[: len(pinned)]) != pinned:
            first = f" that begins with {pinned}" if pinned else ""
            raise SupernetError(
                f"an order of layers is a permutation of 0 to {len(self.layers) - 1}{first}, got {list(order)}"
            )
        self.order = list(order)

    def active_indices(self) -> list[int]:
        """Return the indices of the active layers."""
        place = {id(layer): i for i, layer in enumerate(self.layers)}
        return [place[id(layer)] for layer in self.container.active_layers]

    def sliced_modules(self, index: int) -> Iterator[SlicedModule]:
        """Yield the elastic modules of a layer."""
        return (m for m in self.layers[index].modules() if isinstance(m, SlicedModule))


def wire(model: nn.Module, family: Family) -> list[WiredStack]:
    """Make a model elastic in place.

    Raises:
        UnsupportedModel: It is not built as the family's table says.
    """
    base = model.base_model if family.library == "transformers" else model
    stacks = []
    for table in family.stacks:
        try:
            container = base.get_submodule(table.layers)  # type: ignore[union-attr]
        except AttributeError:
            continue  # e.g. an encoder without its decoder
        config = _config(model, table) if family.library == "transformers" else None
        _check(model, family, container)
        stacks.append(WiredStack(table, make_elastic_depth(container), config))
    if not stacks:
        raise UnsupportedModel(
            f"a {type(model).__name__} has none of the stacks of family {family.name!r}: "
            f"{', '.join(t.layers for t in family.stacks)}; the layout is another version's"
        )
    return stacks


def stack_config(model: nn.Module, table: Stack) -> Any:
    """Return the configuration that sizes a stack."""
    return _config(model, table)


def _config(model: nn.Module, table: Stack) -> Any:
    config: Any = model.config
    for part in filter(None, table.config.split(".")):
        config = getattr(config, part)
    return config


def _check(model: nn.Module, family: Family, container: nn.Module) -> None:
    """Refuse layers that are missing what the table needs, and layers of different shapes."""
    layers = list(container.children())
    if not isinstance(container, nn.ModuleList | nn.Sequential) or not layers:
        raise UnsupportedModel(f"the layers of a {type(model).__name__} are no list of layers")
    for path, wanted in family.needs.items():
        found = type(_at(layers[0], path)).__name__ if _exists(layers[0], path) else "nothing"
        if found != wanted:
            raise UnsupportedModel(
                f"family {family.name!r} needs a {wanted} at {path!r} of each layer of a {type(model).__name__}, "
                f"found {found}; this variant is not supported"
            )
    shapes = [{n: tuple(p.shape) for n, p in layer.named_parameters()} for layer in layers]
    for i, these in enumerate(shapes[1:], 1):
        differing = sorted(n for n in these.keys() & shapes[0].keys() if these[n] != shapes[0][n])
        if differing:
            raise UnsupportedModel(
                f"layers 0 and {i} of a {type(model).__name__} have different shapes ({', '.join(differing[:3])}); "
                "convert the model before it is pruned"
            )


def _slice_layer(layer: nn.Module, dim: Dim, extent: Extent) -> None:
    for path in dim.rows:
        where, _, chunks = path.removeprefix("?").partition(":")
        if path.startswith("?") and not _exists(layer, where):
            continue
        module = _at(layer, where)
        transposed = type(module).__name__ == "Conv1D"
        if isinstance(module, nn.Identity):
            continue
        size = _out_features(module)
        parts = size // extent.full if chunks == "*" else int(chunks or 1)
        _divides(extent, size, parts, where, layer)
        slices = {"weight": Slice(extent, 1 if transposed else 0, size, parts)}
        if getattr(module, "bias", None) is not None:
            slices["bias"] = Slice(extent, 0, size, parts)
        make_sliced(module, slices, {_size_name(module): (extent, size // extent.full)})
    for path in dim.columns:
        module = _at(layer, path)
        transposed = type(module).__name__ == "Conv1D"
        size = _in_features(module)
        _divides(extent, size, 1, path, layer)
        make_sliced(
            module,
            {"weight": Slice(extent, 0 if transposed else 1, size)},
            {"nx" if transposed else "in_features": (extent, size // extent.full)},
        )
    for path in dim.tensors:
        where, _, number = path.removeprefix("?").partition("@")
        owner, _, name = where.rpartition(".")
        if path.startswith("?") and not _exists(layer, owner):
            continue
        module = _at(layer, owner)
        size = getattr(module, name).shape[int(number)]
        counts = {"embedding_dim": (extent, size // extent.full)} if isinstance(module, nn.Embedding) else {}
        make_sliced(module, {name: Slice(extent, int(number), size)}, counts)
    for path in dim.attributes:
        owner, _, name = path.rpartition(".")
        if _exists(layer, owner) and hasattr(_at(layer, owner), name):
            make_sliced(_at(layer, owner), {}, {name: (extent, _value(layer, path) // extent.full)})


def _divides(extent: Extent, size: int, parts: int, path: str, layer: nn.Module) -> None:
    if size % (extent.full * parts):
        raise UnsupportedModel(
            f"{path!r} of a {type(layer).__name__} has {size} features, which do not divide into {parts} x "
            f"{extent.full} units; the layout is another version's"
        )


def _size_name(module: nn.Module) -> str:
    """Return the attribute that counts the outputs of a layer."""
    if hasattr(module, "normalized_shape"):
        return "normalized_shape"
    return "nf" if type(module).__name__ == "Conv1D" else "out_features"


def _out_features(module: nn.Module) -> int:
    size = getattr(module, _size_name(module))
    return int(size[0] if isinstance(size, tuple) else size)


def _in_features(module: nn.Module) -> int:
    return int(module.weight.shape[0 if type(module).__name__ == "Conv1D" else 1])  # type: ignore[index]


def _at(layer: nn.Module, path: str) -> nn.Module:
    try:
        return layer.get_submodule(path)
    except AttributeError:
        raise UnsupportedModel(
            f"a {type(layer).__name__} has no {path!r}, which the family's table names; the layout is another version's"
        ) from None


def _exists(layer: nn.Module, path: str) -> bool:
    try:
        layer.get_submodule(path)
    except AttributeError:
        return False
    return True


def _value(layer: nn.Module, path: str) -> int:
    owner, _, name = path.rpartition(".")
    return int(getattr(_at(layer, owner), name))
