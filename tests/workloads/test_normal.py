"""Normal quantiles: the same as scipy's to the last digits, from the middle to the smallest numbers there are."""

import numpy as np
from scipy.special import ndtri

from workloads.normal import normal_quantile


def test_quantiles_are_those_of_scipy() -> None:
    u = np.concatenate([np.linspace(0, 1, 20_001)[1:-1], 10.0 ** -np.arange(1, 308), 1 - 10.0 ** -np.arange(1, 16)])
    np.testing.assert_allclose(normal_quantile(u), ndtri(u), rtol=4e-15, atol=4e-16)


def test_the_ends_are_infinite_and_the_middle_is_zero() -> None:
    assert normal_quantile(np.array([0.0, 0.5, 1.0])).tolist() == [-np.inf, 0.0, np.inf]
