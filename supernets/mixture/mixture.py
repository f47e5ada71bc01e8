"""All routed layers of a supernet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from search_spaces import SearchSpace
from supernets.elastic.mixable import MixableModule
from supernets.errors import SupernetError
from supernets.mixture.encoding import make_encoding
from supernets.mixture.experts import initialise
from supernets.mixture.layer import RoutedLayer
from supernets.mixture.router import Router
from supernets.mixture.routing import Routing
from supernets.mixture.spec import MixtureSpec
from supernets.mixture.switch import Switch


@dataclass(frozen=True)
class RoutedBlock:
    """Layers that share a router where routing is layer-wise: a feed-forward block, an inverted residual.

    Args:
        name: Unique in the supernet.
        layers: Name -> layer, names unique in the supernet.
    """

    name: str
    layers: Mapping[str, MixableModule]


class Mixture(nn.Module):
    """The experts and routers of a supernet. Making one turns the layers' weights into the first expert.

    Random numbers come from torch's global generator.

    Args:
        spec: What to make.
        space: The supernet's space.
        blocks: Its layers to route.

    Attributes:
        spec: What it was made from.
        layers: Layer -> `RoutedLayer`; dots in names are dashes.
        routers: Block -> router, where routing is layer-wise.

    Raises:
        SupernetError: There is no layer to route, or names repeat.
    """

    def __init__(self, spec: MixtureSpec, space: SearchSpace, blocks: Sequence[RoutedBlock]) -> None:
        super().__init__()
        self.spec = spec
        self._space = space
        self._switch = Switch(space, make_encoding(spec.encoding, space))
        self.layers = nn.ModuleDict()
        self.routers = nn.ModuleDict()
        names = [name for block in blocks for name in block.layers]
        if not names or len({_key(n) for n in names}) != len(names):
            raise SupernetError(f"a mixture needs layers of different names to route, got {names}")
        largest = space.decode(space.largest[None])[0]
        self._switch.set(largest)
        for block in blocks:
            self._add(block)
        self._switch.set(largest)  # forget what was remembered on the way

    def _add(self, block: RoutedBlock) -> None:
        spec, layerwise = self.spec, self.spec.kind == "layer"
        like = next(iter(block.layers.values())).mixed_parameters()["weight"]
        shared = self._router(1, like) if layerwise else None
        if shared is not None:
            self.routers[_key(block.name)] = shared
            routing = Routing(shared, self._switch, None)
        for name, owner in block.layers.items():
            weight = owner.mixed_parameters()["weight"]
            if shared is None:
                own = self._router(weight.shape[owner.output_dim], weight)
                routing = Routing(own, self._switch, owner)
            routed = RoutedLayer(owner, spec.experts, routing, owned=shared is None, switch=self._switch)
            for parameter in owner.mixed_parameters():
                initialise(routed.tensors(parameter), spec)
            self.layers[_key(name)] = routed.train(owner.training)

    def _router(self, rows: int, like: Tensor) -> Router:
        spec, phi = self.spec, self._switch.phi(like)
        router = Router(len(phi), spec.hidden, rows, spec.experts, temperature=spec.temperature, top_k=spec.top_k)
        router.to(like.device, like.dtype).balance(phi)
        return router

    def switch(self, arch: Mapping[str, Any]) -> None:
        """Follow the supernet to an architecture in canonical form. Mixtures are computed when they are used."""
        self._switch.set(arch)

    def routed(self) -> dict[str, RoutedLayer]:
        """Return layer -> routed layer, in the order of the network."""
        return {name: cast("RoutedLayer", layer) for name, layer in self.layers.items()}

    def coefficients(self) -> dict[str, Tensor]:
        """Return layer -> coefficients of the active architecture, ``[1 or active outputs, m]``."""
        return {name: layer.coefficients() for name, layer in self.routed().items()}

    def forget(self) -> None:
        """Drop all remembered mixtures; needed only after writing through ``tensor.data``."""
        for layer in self.routed().values():
            layer.forget()

    def extra_repr(self) -> str:
        """Return the specification for printing."""
        return f"{self.spec.kind}-wise, {self.spec.experts} experts, encoding {self.spec.encoding}"


def _key(name: str) -> str:
    """Return a name that a ``ModuleDict`` takes."""
    return name.replace(".", "-")
