"""A space like that of a Mixture-of-Experts model, and metrics of it that need no model."""

import numpy as np

from search_spaces import Gene, Rows, SearchSpace


def experts_like() -> SearchSpace:
    """Three layers with a count, an operator where not all are kept, a k that needs enough of them; a criterion."""
    genes = [Gene("criterion", ("reap", "frequency"), "categorical", role="criterion")]
    for i in range(3):
        genes += [
            Gene(f"keep.{i}", (2, 4, 6, 8), role="experts", layer=i),
            Gene(
                f"op.{i}",
                ("drop", "m-smoe:reference=none"),
                "categorical",
                layer=i,
                active_when={f"keep.{i}": {2, 4, 6}},
            ),
            Gene(f"k.{i}", (1, 2, 3), role="top_k", layer=i),
        ]
    forbidden = [{f"keep.{i}": {2}, f"k.{i}": {3}} for i in range(3)]
    forbidden.append({"criterion": {"frequency"}, **{f"keep.{i}": {8} for i in range(3)}})
    return SearchSpace("experts-like", genes, forbidden)


def size(G: Rows) -> dict[str, np.ndarray]:
    """Return the experts kept, as a size."""
    space = experts_like()
    columns = space.columns_of_role("experts")
    return {"size_mb": np.array([2.0, 4.0, 6.0, 8.0])[G[:, columns]].sum(axis=1)}
