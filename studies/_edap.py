"""Energy-delay-area product of units in the memory: how well silicon, time and joules are spent at an Op/B."""

from hw_models.spec import Device
from kernels.errors import InputError

DIE_MM2 = 121.0  # an HBM3 die (JSSC 2022, as Duplex, MICRO 2024, takes it)
NUM_DIE = 9  # of a stack: eight of DRAM and the logic die


def edap(device: Device, num_token: int, n: int, k: int, value_byte: int = 2) -> float:
    """Joules x seconds x mm2 of a `num_token x k` by `k x n` product on the units of one device.

    Weights are read once; an activate goes with each page of them; the area is a stack's silicon, units included.

    >>> from hw_models import catalog
    >>> duplex, bank = catalog.device("duplex"), catalog.device("bank_pim")
    >>> [edap(bank, intensity, 16384, 4096) < edap(duplex, intensity, 16384, 4096) for intensity in (1, 32)]
    [True, False]
    """
    pim = device.pim
    if pim is None or pim.area_mm2 <= 0 or pim.read_j_per_byte <= 0:
        raise InputError("EDAP needs units with energy and area", file=device.file, field="pim", value=device.name)
    byte = float(n) * k * value_byte
    flop = 2.0 * num_token * n * k
    seconds = max(flop / pim.flop_per_s, byte / pim.byte_per_s)
    act_j = pim.memory.act_j / pim.memory.dram.page_byte
    joule = byte * (pim.read_j_per_byte + act_j) + flop * pim.flop_j
    return joule * seconds * (NUM_DIE * DIE_MM2 + pim.area_mm2)
