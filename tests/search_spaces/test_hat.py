"""The spaces of translation Transformers."""

import numpy as np
import pytest

from search_spaces import get_space, hat_averages


@pytest.mark.parametrize("name", ["hat-wmt", "hat-iwslt"])
def test_has_the_published_size(name):
    """40 genes, 2.4e15 genotypes, and the networks that differ once layers beyond the depth do not count."""
    space = get_space(name)
    assert len(space.genes) == 40
    assert space.n_genotypes == 2 * 2 * 6 * 3**6 * 3**6 * 2**6 * 2**6 * 2**6 * 3**6
    per_decoder_layer = 3 * 2 * 2 * 3
    assert space.n_distinct == 2 * 2 * 3**6 * 2**6 * sum(per_decoder_layer**d for d in range(1, 7))
    assert f"{space.n_distinct:.1e}" == "4.2e+14"


def test_genes_of_absent_decoder_layers_do_not_matter():
    space = get_space("hat-multi30k")
    (arch,) = space.decode(space.largest[None])
    shallow = {**arch, "dec_layers": 1}
    other = {**shallow, "dec_ffn.1": 128, "dec_heads.2": 2, "dec_cross_heads.1": 2, "dec_cross.2": -1}
    assert (space.encode([shallow]) == space.encode([other])).all()
    assert (space.encode([shallow]) != space.encode([{**shallow, "dec_ffn.0": 128}])).any()


def test_averages_are_over_the_layers_that_run():
    space = get_space("hat-multi30k")
    (arch,) = space.decode(space.largest[None])
    arch |= {"dec_layers": 2, "dec_ffn.0": 512, "dec_ffn.1": 128, "dec_cross.0": -1, "dec_cross.1": 2, "dec_heads.1": 2}
    row = hat_averages(space, space.encode([arch]))[0]
    np.testing.assert_allclose(row, [192, 3, 512, 4, 192, 2, 320, 3, 4, 2])
    swapped = arch | {"dec_ffn.0": 128, "dec_ffn.1": 512}
    # the order of the layers is what the averages cannot see and the features of the space can
    np.testing.assert_array_equal(hat_averages(space, space.encode([swapped]))[0], row)
    assert (space.features(space.encode([swapped])) != space.features(space.encode([arch]))).any()
