"""Why do 128 cores lose to a stream that never waits? (Piper, Zhu et al. 2024, preprocessing of tables on an FPGA)"""

from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from kernels.units import PS_PER_S
from sim.pipeline.bounded import Stage, run_stages
from studies._panels import Panel, panels
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Piper (Zhu et al. 2024): 4.7 to 71.3 times a 128-core server on tables with vocabularies"
SMALL: dict[str, Any] = {"cores": (1, 8, 64), "num_block": 8}
CORES = (1, 4, 16, 32, 64, 128)
DENSE, SPARSE = 13, 26  # columns of the public click log, 32-bit values
ROW_BYTE = 4.0 * (1 + DENSE + SPARSE)  # in binary; as text a row is about 1.5 times as long
BLOCK = 1000  # rows that a core takes at once
# seconds of a core for a value: decoding text, applying (log, modulo, look-up), and under the vocabulary's lock: not
# published; a look-up that misses the cache is 100 ns, a line of another socket's too, a value of text 20 to 60
DECODE_S, APPLY_S, LOCKED_S = 40e-9, 100e-9, (10e-9, 30e-9, 100e-9)
CLOCK_HZ, LINE_BYTE_PER_S = 250e6, 12.5e9  # of the FPGA; of its 100 Gbit/s port
RATE, GAIN = "million rows/s", "rows/s over 128 cores"
CPU, STREAM = "cores", "stream"
NOTE = (
    "public click log: 13 dense and 26 sparse columns; two passes, vocabulary and then values; a core's work a value "
    "and what of it is under the vocabulary's lock (10 to 100 ns) are not published; the FPGA takes a row a cycle or "
    "the port's rate, in both passes"
)


class Work(NamedTuple):
    """Seconds of a row on one core, outside and under the lock."""

    free_s: float
    locked_s: float


def work(locked_s: float, *, text: bool) -> Work:
    """A row's vocabulary pass and its second pass; text is decoded in both."""
    decode = 2 * DECODE_S * (DENSE + SPARSE) if text else 0.0
    return Work(decode + APPLY_S * (DENSE + SPARSE), locked_s * SPARSE)


def cores_rate(one: Work, core: int, num_block: int) -> float:
    """Rows a second of so many cores that take blocks of rows and share one vocabulary."""
    stages = [Stage("columns", BLOCK * one.free_s, core, resource="core"),
              Stage("vocabulary", BLOCK * one.locked_s, 1, 0, "core")]  # fmt: skip
    passed = run_stages(stages, num_block * core, resources={"core": core})
    return num_block * core * BLOCK * PS_PER_S / float(passed.leave_ps.max())


def stream_rate(*, text: bool) -> float:
    """Rows a second of a pipeline that takes a row a cycle, or a row's bytes off the port, twice."""
    byte = ROW_BYTE * (1.5 if text else 1.0)
    return min(CLOCK_HZ, LINE_BYTE_PER_S / byte) / 2


def run(cores: tuple[int, ...] = CORES, num_block: int = 16) -> pd.DataFrame:
    """Rows a second by cores and lock, beside the stream."""
    rows: list[dict[str, Any]] = []
    gains: list[float] = []
    for text in (False, True):
        kind = "text" if text else "binary"
        line = stream_rate(text=text)
        for locked in LOCKED_S:
            one = work(locked, text=text)
            rate = [cores_rate(one, core, num_block) for core in cores]
            where = f"{kind}, {1e9 * locked:.0f} ns locked"
            rows += [point(CPU, RATE, f"{where}, {core}", value / 1e6, NOTE)
                     for core, value in zip(cores, rate, strict=True)]  # fmt: skip
            rows += [point(STREAM, RATE, f"{where}, {core}", line / 1e6, NOTE) for core in cores]
            rows.append(point(STREAM, GAIN, where, line / rate[-1], NOTE))
            gains.append(line / rate[-1])
            most = 1 / one.locked_s
            rows.append(order(CPU, "order: scaling ends at the lock", where,
                              rate[-1] <= most * 1.01 and rate[-1] < 0.95 * cores[-1] * rate[0], NOTE))  # fmt: skip
    rows.append(order(STREAM, "order: faster than all cores", "every lock, binary and text", min(gains) > 1, NOTE))
    for published, found in ((4.7, min(gains)), (71.3, max(gains))):
        rows.append(row(STREAM, "least and most over cores", f"{published:g} times", published, found, NOTE,
                        tag="approx", null=1.0, said=True, spread=gains))  # fmt: skip
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Rows a second by cores for each lock, and the stream over all cores."""
    shown = [Panel(RATE, f"binary, {1e9 * locked:.0f} ns locked", RATE, f"binary, {1e9 * locked:.0f} ns locked, ",
                   curve=True, log=True) for locked in LOCKED_S]  # fmt: skip
    return panels(table, [*shown, Panel(GAIN, "Piper", GAIN)], "Piper: tables into training")
