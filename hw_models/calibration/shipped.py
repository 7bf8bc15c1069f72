"""Every shipped profile of GEMM and fused experts from the measured data set, in one command.

    python -m hw_models.calibration.shipped ../shared/data [--out hw_models/profiles] [--date YYYY-MM-DD]

Two processes; about two minutes. Devices with few probes start from the profile of their nearest relative, which
is fitted before them.
"""

import argparse
import datetime
import pathlib
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import NamedTuple

from hw_models import profile
from hw_models.calibration import ops


class Shipped(NamedTuple):
    profile: str  # folder of the profile, and of the measured rows under ops/
    device: str  # catalogue name
    relative: str = ""  # profile that few probes start from


MEASURED = (Shipped("h100_sxm", "h100_sxm"), Shipped("a100_sxm", "a100_sxm_80gb"))
PROBED = (Shipped("b200_sxm", "b200", "h100_sxm"), Shipped("l40s", "l40s", "h100_sxm"))


def fit_one(job: tuple[Shipped, str, pathlib.Path, pathlib.Path, str]) -> None:
    """One kind of one device: fit and write."""
    shipped, kind, data, out, date = job
    folder = data / "ops" / shipped.profile
    relative = profile.load(out / shipped.relative) if shipped.relative else None
    fitted = ops.fit_folder(folder, shipped.device, relative, (kind,))
    command = f"python -m hw_models.calibration.shipped {data}"
    ops.write(fitted, shipped.profile, out / shipped.profile, command, date)


def main(argv: list[str]) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hw_models.calibration.shipped")
    parser.add_argument("data", type=pathlib.Path, help="the measured data set")
    parser.add_argument("--out", type=pathlib.Path, default=profile.FOLDER)
    parser.add_argument("--date", default=datetime.date.today().isoformat(), help="written into the files")
    given = parser.parse_args(argv)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for devices in (MEASURED, PROBED):
            jobs = [(d, kind, given.data, given.out, given.date) for kind in reversed(ops.KINDS) for d in devices]
            list(pool.map(fit_one, jobs))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
