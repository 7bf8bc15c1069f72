"""Every shipped profile from the measured data set, in one command.

    python -m hw_models.calibration.shipped ../shared/data [--out hw_models/profiles] [--date YYYY-MM-DD]
                                                           [--only DEVICE ...]

All kinds of all devices: GEMM, fused experts, attention, streams and collectives. Two processes; a line as each job
ends. The same data give the same bytes (with the same `--date`) on the same kind of processor, whatever the order of
rows and of jobs. Devices with few probes start from the profile of their nearest relative, and take from it what was
not measured on them; their jobs begin when the relative's are done.
"""

import argparse
import datetime
import pathlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from typing import NamedTuple

from hw_models import catalog, profile
from hw_models.calibration import (
    attention_fit,
    collective_fit,
    exchange_fit,
    inherit,
    ops,
    paged_fit,
    scan_fit,
    stream_fit,
)
from hw_models.process import end_with_parent
from hw_models.profile import Kernel, Profile, ProfileFile
from hw_models.spec import Device
from kernels.errors import InputError

COMMAND = "python -m hw_models.calibration.shipped ../shared/data"
HALVES = "operator benchmark rows of the measured data set: constants fitted on half of the shapes, checked on the rest"
PROBES = "operator probes of the measured data set: constants fitted on all of them, error by cross-validation"
COLLECTIVES = "collective benchmark rows of the measured data set: constants fitted on all, error by cross-validation"
LAYERS = "per-layer operator times of the measured data set: constants fitted on half of the shapes"
PAGED = "serving/relay_attention/op_a40_llama30b_heads.csv"
KINDS = ("moe", "attention", "collective", "gemm", "stream", "scan")  # a file each, the longest first


class Shipped(NamedTuple):
    """One profile. `relative`: by kind, the profile that few probes start from or that stands for what is missing."""

    name: str  # of the profile, and of the folder of measured rows under ops/
    device: str  # catalogue name
    layer: str = ""  # folder under layers/
    relative: Mapping[str, str] = {}
    box: str = ""  # measured collectives of the same GPU in another box
    pcie: bool = False  # measured collectives of a box without scale-up links
    library: str = "nccl"  # whose collectives were measured
    # the one kind that was measured, where it is one: a file that is laid over the relative's profile
    overlay: str = ""


ALL = (
    Shipped("h100_sxm", "h100_sxm", "h100"),
    Shipped("a100_sxm", "a100_sxm_80gb", "a100", relative={"scan": "h100_sxm"}),
    Shipped("b200_sxm", "b200", relative=dict.fromkeys(KINDS, "h100_sxm"), box="gb200"),
    Shipped(
        "l40s",
        "l40s",
        relative={**dict.fromkeys(KINDS, "a100_sxm"), **dict.fromkeys(("gemm", "moe", "scan"), "h100_sxm")},
        pcie=True,
    ),
    Shipped("rtx_pro_6000", "rtx_pro_6000", pcie=True, overlay="collective"),
    Shipped("b60", "b60", pcie=True, library="oneccl", overlay="collective"),
    Shipped("a40", "a40", relative={"attention": "a100_sxm"}, overlay="attention"),
)


def gemm(of: Shipped, data: pathlib.Path, near: Profile | None) -> list[Kernel]:
    own = ops.fit_folder(data / "ops" / of.name, of.device, near, ("gemm",))["gemm"]
    if not of.box:
        return own
    # formats that were measured on the same GPU in the other box alone
    names = ("vllm_default", "deepgemm")
    found = ops.fit_formats(data / "ops" / of.box / "gemm.csv.gz", of.box, {k.format for k in own}, names)
    return own + [of_box(kernel, of) for kernel in found]


def of_box(kernel: Kernel, of: Shipped) -> Kernel:
    """A kernel that was measured in the other box, whose boards clock otherwise, for this one's."""
    return rounded(inherit.scaled(kernel, catalog.device(of.box), catalog.device(of.device)), of.box)


def rounded(kernel: Kernel, box: str) -> Kernel:
    """A kernel of which something was measured in another `box`, in as many digits as a fit has."""
    parameter = {name: float(f"{value:.5g}") for name, value in kernel.parameter.items()}
    return kernel.model_copy(update={"parameter": parameter, "data": f"{box}/{kernel.data}"})


def moe(of: Shipped, data: pathlib.Path, near: Profile | None) -> list[Kernel]:
    own = ops.fit_folder(data / "ops" / of.name, of.device, near, ("moe",))["moe"]
    return own if near is None else own + unmeasured(own, near, catalog.device(of.device))


def unmeasured(own: list[Kernel], near: Profile, heir: Device) -> list[Kernel]:
    """Experts in the formats that were not measured: the relative's kernels of these formats, for another format is
    another kernel. Four bits on tensor cores, which no relative has, are the kernel that 16 bits run."""
    relative, known = catalog.device(near.device), {kernel.format for kernel in own}
    found = [kernel for kernel in near.kernel if kernel.kind == "moe" and kernel.format not in known]
    taken = [rounded(inherit.scaled(kernel, relative, heir), near.device) for kernel in found]
    wide = next(kernel for kernel in own if kernel.default)
    if heir.peak("fp4"):
        alone = {"train": None, "held_out": None}
        taken += [wide.model_copy(update={"format": name, **alone}) for name in ("nvfp4", "mxfp4")]
    return taken


def attention(of: Shipped, data: pathlib.Path, near: Profile | None) -> list[Kernel]:
    if of.overlay and near is not None:
        return paged_fit.fit_file(data / PAGED, of.device, near, "a100_sxm_80gb")
    return attention_fit.fit_folder(data / "ops" / of.name, of.device, near)


def stream(of: Shipped, data: pathlib.Path, near: Profile | None) -> list[Kernel]:
    if near is None:
        return stream_fit.fit_folder(data / "layers" / of.layer, of.device)
    relative, heir = catalog.device(near.device), catalog.device(of.device)
    return [streamed(kernel, relative, heir) for kernel in stream_fit.taken(near, "stream")]


def streamed(kernel: Kernel, relative: Device, heir: Device) -> Kernel:
    """A stream taken from a relative, with the share of the memory's rate that the heir's cores reach."""
    share = inherit.stream_eff(kernel.parameter["mem_eff"], relative, heir)
    return kernel.model_copy(update={"parameter": {**kernel.parameter, "mem_eff": float(f"{share:.5g}")}})


def collective(of: Shipped, data: pathlib.Path, near: Profile | None) -> list[Kernel]:
    folder = data / "collectives"
    own = of.box or of.name
    exchanges = sorted(
        path for path in folder.glob(f"{own}_*.csv*") if "deepep" in path.name or "alltoall" in path.name
    )
    found = exchange_fit.fit_files(exchanges, of.device)
    if of.pcie:
        return collective_fit.fit_pcie(folder / f"{of.name}_{of.library}.csv", of.device)
    if near is not None and not of.box:
        return stream_fit.taken(near, "collective")
    if near is not None:
        files = [folder / f"{of.box}_{tail}.csv" for tail in ("nccl", "custom_allreduce")]
        return collective_fit.fit_few(files[0], files[1], of.device, stream_fit.taken(near, "collective")) + found
    files = [folder / f"{of.name}_{tail}.csv" for tail in ("nccl", "vllm_custom_allreduce")]
    library = collective_fit.fit_files(files[0], files[1], of.device)
    others = folder / f"{of.name}_custom_allreduce.csv"
    if others.exists():
        ring = next(kernel for kernel in library if (kernel.kind, kernel.name) == ("all_reduce", "nccl"))
        library += collective_fit.other_engines(others, of.device, ring.parameter)
    return library + found


def scan(of: Shipped, data: pathlib.Path, near: Profile | None) -> list[Kernel]:
    return scan_fit.fit_folder(data / "ops" / of.name, of.device) if near is None else stream_fit.taken(near, "scan")


FITS: Mapping[str, Callable[[Shipped, pathlib.Path, Profile | None], list[Kernel]]] = {
    "gemm": gemm,
    "moe": moe,
    "attention": attention,
    "stream": stream,
    "collective": collective,
    "scan": scan,
}


def source_of(of: Shipped, kind: str) -> str:
    """Where the constants of a file come from, in a sentence."""
    if of.box and kind == "collective":
        return f"collectives of {of.box}, four GPUs: constants from {of.relative[kind]}'s on; error by cross-validation"
    if of.box and kind == "gemm":
        return f"{PROBES}; formats that {of.box} alone was measured in: rows of that, fitted on half of the shapes"
    if of.pcie and kind == "collective":
        return COLLECTIVES
    if of.overlay == "attention":
        return f"{HALVES}; from {of.relative[kind]}'s constants on; no prompts were measured"
    if kind in of.relative and kind in ("stream", "collective", "scan"):
        return f"taken from {of.relative[kind]}: not measured on this device"
    if kind == "stream":
        return LAYERS
    if kind == "collective":
        return COLLECTIVES
    return PROBES if kind in of.relative else HALVES


def fit_one(of: Shipped, kind: str, data: pathlib.Path, out: pathlib.Path, date: str) -> float:
    """One kind of one profile: fit and write. Returns the processor seconds that it took."""
    start = time.process_time()
    near = profile.load(out / of.relative[kind]) if kind in of.relative else None
    kernels = FITS[kind](of, data, near)
    content = ProfileFile(device=of.name, command=COMMAND, date=date, source=source_of(of, kind), kernel=tuple(kernels))
    profile.write_file(out / f"{of.name}.toml" if of.overlay else out / of.name / f"{kind}.toml", content)
    return time.process_time() - start


def fit_all(
    data: pathlib.Path,
    out: pathlib.Path,
    date: str,
    chosen: Sequence[Shipped] = ALL,
    kinds: Sequence[str] = KINDS,
    say: Callable[[str], None] = print,
) -> None:
    """Fits and writes `kinds` of the `chosen` profiles in two processes, relatives before those that need them."""
    left = [(of, kind) for kind in kinds for of in chosen if of.overlay in ("", kind)]
    names = [of.name for of in chosen]
    total, done = len(left), 0
    finished: set[tuple[str, str]] = set()
    running: dict[Future[float], tuple[Shipped, str]] = {}
    with ProcessPoolExecutor(2, mp_context=get_context("spawn"), initializer=end_with_parent) as pool:
        while left or running:
            for job in list(left):
                of, kind = job
                near = of.relative.get(kind, "")
                if near not in names or all((near, other) in finished for other in kinds):
                    running[pool.submit(fit_one, of, kind, data, out, date)] = job
                    left.remove(job)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                of, kind = running.pop(future)
                finished.add((of.name, kind))
                done += 1
                say(f"{done} of {total}: {of.name} {kind}, {future.result():.0f} processor seconds")


def main(argv: list[str]) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hw_models.calibration.shipped")
    parser.add_argument("data", type=pathlib.Path, help="the measured data set")
    parser.add_argument("--out", type=pathlib.Path, default=profile.FOLDER)
    parser.add_argument("--date", default=datetime.date.today().isoformat(), help="written into the files")
    parser.add_argument("--only", nargs="+", choices=[of.name for of in ALL], help="profiles to fit; all if not given")
    parser.add_argument("--kind", nargs="+", choices=KINDS, default=list(KINDS), help="files to fit; all if not given")
    given = parser.parse_args(argv)
    if not (given.data / "ops").is_dir():
        raise InputError("not the measured data set: no folder ops", file=given.data)
    chosen = [of for of in ALL if given.only is None or of.name in given.only]
    fit_all(given.data, given.out, given.date, chosen, given.kind)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
