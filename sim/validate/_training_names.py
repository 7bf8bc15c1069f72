"""Headers of files of training runs as our readers know them, whatever letters and unit they are written in."""

import pandas as pd

from hw_models.calibration.units import plain, with_units
from sim.training.offload_measured import COLUMNS as OFFLOAD_COLUMNS
from sim.validate._training_old import LAYOUT_COLUMNS, NODE_COLUMNS
from sim.validate._training_rows import MEASURED

KNOWN = {plain(name): name for name in (*NODE_COLUMNS, *LAYOUT_COLUMNS, *OFFLOAD_COLUMNS, *MEASURED)}


def named(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with known headers; others in small letters.

    >>> named(pd.DataFrame({"GPU": ["h100"], "Step (ms)": [250.0], "memory_gib": [40.0]})).columns.tolist()
    ['gpu', 'step_s', 'memory_GiB']
    """
    frame = frame.rename(columns=lambda name: plain(str(name)))
    frame = frame.loc[:, ~frame.columns.duplicated()]
    offload = any(name.startswith("fwd") for name in frame.columns)  # where `step_ms` is the optimizer's
    timed = OFFLOAD_COLUMNS if offload else ("step_s", *(plain(name) for name in NODE_COLUMNS))
    return with_units(frame, timed).rename(columns=KNOWN)
