"""Optimizers as operators and state bytes: what an update keeps of a value, and which products it does on a matrix.

`state_byte` counts the master weight and the moments of a value. Element-wise optimizers read and write their states
once; those on whole matrices multiply besides, every step or once in `refresh` steps. Where states are sharded (ZeRO) a
rank updates its share of the matrices.
"""

from typing import NamedTuple

from kernels.errors import InputError


class Optimizer(NamedTuple):
    """`products(m, n)` of a matrix with m <= n are (rows, columns, depth, times) of an update."""

    state_byte: float
    rounds: int  # of the products below, an update
    source: str


OPTIMIZERS: dict[str, Optimizer] = {
    "adam": Optimizer(12.0, 0, "master weight and two moments in 32 bits (Kingma and Ba 2015)"),
    "adam_16bit": Optimizer(8.0, 0, "master weight in 32 bits, moments in 16 (DeepSeek-V3's report, section 3.3.3)"),
    "adam_8bit": Optimizer(6.0, 0, "master weight in 32 bits, moments in 8 (Dettmers et al. 2022)"),
    "sgd": Optimizer(8.0, 0, "master weight and momentum in 32 bits"),
    "lion": Optimizer(8.0, 0, "master weight and one moment in 32 bits (Chen et al. 2023)"),
    "adafactor": Optimizer(4.0, 0, "master weight; moments of rows and columns (Shazeer and Stern 2018)"),
    "muon": Optimizer(8.0, 5, "momentum, five Newton-Schulz rounds on every matrix (Jordan et al. 2024)"),
}


def optimizer(name: str) -> Optimizer:
    """An optimizer by name. `InputError` for none."""
    if name not in OPTIMIZERS:
        raise InputError("no such optimizer", field="optimizer", value=name, allowed=OPTIMIZERS)
    return OPTIMIZERS[name]


def products(name: str, rows: int, columns: int) -> list[tuple[int, int, int]]:
    """(rows, columns, depth) of the products of one round on a matrix: X X^T, its square, and their product with X.

    >>> products("muon", 8, 4), products("adam", 8, 4)
    ([(4, 4, 8), (4, 4, 4), (4, 8, 4)], [])
    """
    if not optimizer(name).rounds:
        return []
    m, n = min(rows, columns), max(rows, columns)
    return [(m, m, n), (m, m, m), (m, n, m)]
