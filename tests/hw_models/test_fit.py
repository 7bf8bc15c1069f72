"""The fit recovers known constants, is deterministic, and its halves share no shape."""

import numpy as np

from hw_models.calibration.fit import Parameter, error, fit, half

PARAMETERS = [
    Parameter("launch_s", 1e-5, 1e-7, 1e-3),
    Parameter("rate", 1e11, 1e9, 1e13),
    Parameter("p", 2.0, 2.0, 2.0),  # fixed
]


def test_known_constants_are_recovered_twice_alike() -> None:
    work = np.geomspace(1e4, 1e12, 60)
    truth = np.array([3e-6, 7e11, 2.0])

    def predict(x: np.ndarray) -> np.ndarray:
        return x[0] + work / x[1]

    noise = np.random.default_rng(1).normal(0, 0.01, 60)
    measured = predict(truth) * np.exp(noise)
    first = fit(predict, measured, PARAMETERS)
    assert abs(first["launch_s"] / 3e-6 - 1) < 0.01  # 1 % noise over ~30 rows each: standard error 0.2 %
    assert abs(first["rate"] / 7e11 - 1) < 0.01
    assert first["p"] == 2.0
    assert fit(predict, measured, PARAMETERS) == first


def test_search_escapes_a_bad_start() -> None:
    work = np.geomspace(1e4, 1e12, 40)
    measured = 3e-6 + work / 7e11
    start = [Parameter("launch_s", 9e-4, 1e-7, 1e-3), Parameter("rate", 1e9, 1e9, 1e13)]
    found = fit(lambda x: x[0] + work / x[1], measured, start, search=20)
    assert abs(found["rate"] / 7e11 - 1) < 1e-3


def test_halves_share_no_shape_and_balance() -> None:
    m, n = np.meshgrid(np.arange(64), np.arange(64))
    chosen = half(m.ravel(), n.ravel())
    assert 0.45 < chosen.mean() < 0.55  # 4096 fair coins: 3 sigma is 2.3 %
    order = np.random.default_rng(0).permutation(chosen.size)
    assert (half(m.ravel()[order], n.ravel()[order]) == chosen[order]).all()


def test_error_of_a_known_miss() -> None:
    e = error(np.array([1.2, 0.9, 1.0, 1.0]), np.ones(4))
    assert (e.n, e.mape, e.bias) == (4, 0.075, 0.025)  # (0.2 + 0.1)/4; (0.2 - 0.1)/4
