"""One random generator a component, so that adding a component never moves another's numbers."""

import zlib

import numpy as np


def generator(seed: int, component: str) -> np.random.Generator:
    """A `numpy.random.Generator` that depends on `seed` and on the component's name alone.

    >>> float(generator(0, "arrival").random()) == float(generator(0, "arrival").random())
    True
    >>> float(generator(0, "arrival").random()) == float(generator(0, "prompt").random())
    False
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(zlib.crc32(component.encode()),)))
