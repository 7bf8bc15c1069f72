"""What runs beside what in a step: work of two engines that needs nothing from each other takes the time of the longer.

A step's operators follow one another but for what the machine's `beside` says (`kernels.machine.BESIDES`):

- `attention`: in a step that holds prompts and decodes, the prompts' attention of a layer runs on the main engine
  while the decodes' attention runs on the units in the memory (co-processing of attention, Duplex, MICRO 2024). Each
  slows the other down by the machine's shares; memory units that block the main engine have no such rule.

Engines keep their accounts: what ran side by side is counted in both, and the time saved is booked once.
"""

from kernels.engine.records import Floats
from kernels.jit import njit
from kernels.machine import BESIDE, BESIDE_ATTENTION, MAIN_SHARE, PIM_SHARE
from kernels.optable import BOUND_PIM_COMPUTE
from kernels.overlap import pair_cycle


@njit
def hidden_ps(prefill_ps: int, decode_ps: int, decode_bound: int, rate: Floats) -> int:
    """Picoseconds by which a layer's attention is shorter than its two parts one after another.

    >>> import numpy as np
    >>> from kernels.machine import RATES
    >>> rate = np.ones(len(RATES))  # `beside` is attention, nobody slows anybody down
    >>> hidden_ps(10, 4, BOUND_PIM_COMPUTE, rate), hidden_ps(10, 4, 1, rate), hidden_ps(0, 4, BOUND_PIM_COMPUTE, rate)
    (4, 0, 0)
    """
    if rate[BESIDE] != BESIDE_ATTENTION or decode_bound < BOUND_PIM_COMPUTE or prefill_ps <= 0 or decode_ps <= 0:
        return 0
    both = pair_cycle(float(prefill_ps), float(decode_ps), rate[MAIN_SHARE], rate[PIM_SHARE])
    return max(0, prefill_ps + decode_ps - int(both + 0.5))
