"""Mixture-of-Supernets: architectures share several experts, and a router says how, for any supernet.

Plain weight sharing makes an architecture compute with a slice of one weight. Here each routed layer has ``m`` experts
of the full shape, and an architecture ``a`` computes with a mixture of their slices, so that architectures that want
different weights may have them (Mixture-of-Supernets, arXiv:2306.04845). The family says which layers are routed: the
feed-forward layers of Transformers, the 1x1 convolutions and the hidden fully connected layer of MobileNetV3.

Formulas, for a layer of ``n_out x n_in``, of which an architecture ``a`` uses ``d_out x d_in``:

* ``phi(a)``: float ``[f]``, fixed for a space; see `supernets.mixture.encoding`.
* Router: ``h = relu(W1 phi + b1)``, ``W1 [H, f]``; ``logits = (W2 h + b2) / temperature`` as ``[rows, m]``,
  ``W2 [rows * m, H]``, where row ``n`` has the entries ``n * m`` to ``n * m + m - 1`` (neuron-major, expert-minor);
  ``A = softmax(logits)`` over the experts, or over the ``top_k`` largest of each row, the others being zero.
* Layer-wise: ``rows = 1``; one router serves all routed layers of a block, weights and biases.
* Neuron-wise: ``rows = n_out``; each layer has its own router. The first ``m * d_out`` entries of ``W2`` are used
  (where outputs lie in chunks, a prefix of each), so a neuron keeps its coefficients at every width.
* Weight: ``W[n, :] = sum_j A[n, j] E_j[n, :d_in]`` for ``n < d_out``; bias: ``b[n] = sum_j A[n, j] b_j[n]``. Slices
  are cut first, then mixed: the cost follows the active size. The sum is taken as a chain of interpolations,
  ``W <- lerp(W, E_j, A_j / (A_1 + ... + A_j))``: ``m - 1`` passes; equal experts and one-hot coefficients come out bit
  for bit.
* Gradients, of ``G = dL/dW``: ``dE_j[n] = A[n, j] G[n]``, ``dA[n, j] = <G[n], E_j[n]>`` (the softmax takes out what
  the experts have in common). They follow from the slices alone, so the value may come from a cache.

Expert 1 is the layer's own weight: names and files of a plain supernet stay what they were. The others and the routers
are in ``mixtures`` of the supernet: ``mixtures.layers.<layer>.experts.<j>.weight`` and ``.bias``,
``mixtures.layers.<layer>.router.*`` (neuron-wise) or ``mixtures.routers.<block>.*`` (layer-wise), the router's tensors
being ``hidden_weight``, ``hidden_bias``, ``out_weight`` and ``out_bias``.
"""

from supernets.mixture.encoding import ArchitectureEncoding, list_encodings, make_encoding, register_encoding
from supernets.mixture.layer import RoutedLayer
from supernets.mixture.mixture import Mixture, RoutedBlock
from supernets.mixture.router import Router
from supernets.mixture.spec import MixtureSpec, mixture_spec

__all__ = [
    "ArchitectureEncoding",
    "Mixture",
    "MixtureSpec",
    "RoutedBlock",
    "RoutedLayer",
    "Router",
    "list_encodings",
    "make_encoding",
    "mixture_spec",
    "register_encoding",
]
