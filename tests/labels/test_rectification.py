"""The label update of SPR, to the formula."""

import numpy as np
import pytest
import torch

from hf_usod.labels import PAPER_WEIGHTS, RELEASED_WEIGHTS, rectify


def maps(seed, low=0.0, high=1.0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(low, high, (3, 1, 5, 7))).float()


@pytest.mark.parametrize("weights", [PAPER_WEIGHTS, RELEASED_WEIGHTS])
@pytest.mark.parametrize("with_prior", [True, False])
def test_is_the_formula(weights, with_prior):
    prediction, previous, prior = maps(0, 0.1, 0.7), maps(1), maps(2, 0.0, 0.4)
    label = rectify(prediction, previous, prior if with_prior else None, weights)
    for index in range(3):
        post, prev, pri = (m[index].double().numpy() for m in (prediction, previous, prior))
        expected = weights[1] * post + weights[2] * prev
        if with_prior:
            expected += weights[0] * pri / pri.max()
        np.testing.assert_allclose(label[index].numpy(), expected / expected.max(), atol=1e-6)


def test_weights():
    assert PAPER_WEIGHTS == (0.2, 0.6, 0.2) and RELEASED_WEIGHTS == (0.1, 0.7, 0.2)
    inputs = maps(0), maps(1), maps(2)
    assert torch.equal(rectify(*inputs), rectify(*inputs, weights=PAPER_WEIGHTS))
    assert not torch.allclose(rectify(*inputs), rectify(*inputs, weights=RELEASED_WEIGHTS))


def test_empty_maps_stay_empty():
    some, none = maps(0), torch.zeros(3, 1, 5, 7)
    assert torch.equal(rectify(none, none, none), none)
    assert torch.equal(rectify(none, none, None), none)
    mixed = torch.cat([none[:1], some[1:]])  # an empty sample does not touch its neighbors
    label = rectify(mixed, mixed, mixed)
    assert torch.equal(label[:1], none[:1])
    torch.testing.assert_close(label[1:], rectify(some, some, some)[1:])


def test_no_gradient():
    assert not rectify(maps(0).requires_grad_(), maps(1), maps(2)).requires_grad


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"`prior` \(3, 1, 5, 6\)"):
        rectify(maps(0), maps(1), maps(2)[..., 1:])
