"""What the recurrences of a step cost: convolutions and scans, whose price depends on tokens and on sequences.

A *scan row* is one operator of a recurrent layer kind: its FLOPs and bytes are so many a token and so many a sequence
(the state, read and written once), in prompts by one kernel and in decodes by another. Priced from the two counts, it
equals the row of the operator table.
"""

from kernels.engine.price import CLASS_SIZE, NUM_CLASS, NUM_DEVICE, NUM_GROUP, NUM_RATE, Cost, PackedPrice, whole
from kernels.jit import njit
from kernels.machine import NUM_FIT, PRODUCT_W
from kernels.optable import BOUND_LAUNCH
from kernels.power import operator_j
from kernels.scan import scan_s
from kernels.stream import stream_s
from kernels.units import operator_ps, to_nj

SCAN_FIELDS: tuple[str, ...] = (
    "form",  # of FORMS
    "num_head",  # chains of a sequence
    "flop_token",
    "weight_byte",  # whatever the counts
    "read_token",  # bytes a token
    "read_seq",  # bytes a sequence
    "write_token",
    "write_seq",
    "peak_flop_per_s",
)
(FORM, NUM_HEAD, FLOP_TOKEN, WEIGHT_BYTE, READ_TOKEN, READ_SEQ, WRITE_TOKEN, WRITE_SEQ, PEAK) = range(len(SCAN_FIELDS))
SCAN_SIZE = len(SCAN_FIELDS) + NUM_FIT  # of a phase: the fields and the kernel's fit
FORMS: tuple[str, ...] = ("none", "stream", "chain")
NONE, STREAM, CHAIN = range(len(FORMS))


@njit
def scan_cost(p: PackedPrice, row: int, phase: int, num_token: int, num_seq: int) -> Cost:
    """Picoseconds, nanojoules, bound, kB and MFLOP of one layer's scan row on `num_token` tokens of `num_seq` prompts
    (phase 0) or decodes (1); of several attention groups, one has an even share of both, rounded up."""
    real, device, group = p.real, p.table[NUM_DEVICE], p.table[NUM_GROUP]
    at = NUM_RATE + p.table[NUM_CLASS] * CLASS_SIZE + (2 * row + phase) * SCAN_SIZE
    form = int(real[at + FORM])
    if form == NONE or num_seq <= 0:
        return 0, 0, BOUND_LAUNCH, 0, 0
    token, seq = -(-num_token // group), -(-num_seq // group)
    flop = token * real[at + FLOP_TOKEN]
    read = real[at + WEIGHT_BYTE] + token * real[at + READ_TOKEN] + seq * real[at + READ_SEQ]
    write = token * real[at + WRITE_TOKEN] + seq * real[at + WRITE_SEQ]
    fit = real[at + len(SCAN_FIELDS) : at + SCAN_SIZE]
    if form == CHAIN:
        seconds, ideal_s, bound = scan_s(
            token, seq, int(real[at + NUM_HEAD]), flop, read + write, real[at + PEAK], real, fit
        )
    else:
        seconds, ideal_s, bound = stream_s(flop, read, write, real, fit)
    work_s, product_w = (flop / real[at + PEAK], real[PRODUCT_W]) if form == CHAIN else (0.0, 0.0)
    energy_nj = device * to_nj(operator_j(seconds, ideal_s, bound, work_s, read + write, product_w, real))
    return operator_ps(seconds), energy_nj, bound, device * whole((read + write) * 1e-3), device * whole(flop * 1e-6)
