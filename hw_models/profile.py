"""Calibration profiles: what was fitted for a device, as readable TOML, and the fit vectors that kernels take.

A profile is one file, or a folder whose files are merged (the shipped ones: `profiles/<device>/<kind>.toml`, a
file a kind, so that each kind is written by its own fit and by nothing else). A file says how it was made and
holds a `[[kernel]]` for each kind, number format and named kernel; a device's file may carry the same under
`[calibration]` (which is what `ridgeline calibrate` writes)::

    device = "h100_sxm"
    command = "python -m hw_models.calibration.shipped ../shared/data"
    date = "2026-11-22"
    source = "..."

    [[kernel]]
    kind = "gemm"
    format = "bf16"          # the KV format for attention; "any" where a kind has one fit for all
    name = "torch.nn.functional.linear"
    default = true           # the kernel that a machine uses; one a kind and format
    data = "gemm.csv.gz"
    parameter = { launch_s = 2.4e-06, compute_eff = 0.82 }
    train = { n = 9000, mape = 0.05, median = 0.04, p90 = 0.1, bias = 0.0, sigma = 0.06 }
    held_out = { n = 9000, mape = 0.05, median = 0.04, p90 = 0.1, bias = 0.0, sigma = 0.06 }
    spread = { under_10us = 0.03, over_1ms = 0.08 }
"""

import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pydantic

from hw_models.files import read_toml
from hw_models.forms import EAGER, EXCHANGE_KINDS, FORMAT_RELATIVES, FORMS, KIND_RELATIVES
from hw_models.relatives import PROFILES
from kernels.attention import PADDED
from kernels.collective_between import RING_NET_S
from kernels.collective_layout import SIMPLE
from kernels.errors import InputError, from_validation
from kernels.formats import FORMAT_CODE, FORMATS, NUM_FORMAT
from kernels.machine import NUM_FIT
from kernels.optable import KIND_CODE, KINDS, NUM_KIND

Floats = npt.NDArray[np.float64]
FOLDER = PROFILES


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, defer_build=True)


class ErrorSummary(Strict):
    """Fractions of the measured time; `sigma` is of log(predicted / measured)."""

    n: int
    mape: float
    median: float
    p90: float
    bias: float
    sigma: float


class Kernel(Strict):
    """One fitted kernel."""

    kind: str
    format: str
    name: str
    default: bool = False
    padded: bool = False  # decodes at the span of the batch's longest sequence (`kernels.attention.PADDED`)
    data: str = ""
    parameter: dict[str, float]
    train: ErrorSummary | None = None
    held_out: ErrorSummary | None = None
    part: dict[str, ErrorSummary] = {}  # held-out errors of parts of the rows (an exchange: by nodes and tokens)
    spread: dict[str, float] = {}


class ProfileFile(Strict):
    """One file as written."""

    device: str
    command: str
    date: str
    source: str = ""
    note: str = ""
    kernel: tuple[Kernel, ...] = ()


class Profile(Strict):
    """All kernels of a device."""

    device: str
    kernel: tuple[Kernel, ...]

    def find(self, kind: str, fmt: str, name: str | None = None) -> Kernel | None:
        """The named (else the default) kernel of a kind and format, or None."""
        for k in self.kernel:
            if k.kind == kind and k.format in (fmt, "any") and (k.default if name is None else k.name == name):
                return k
        return None


def load(device_or_path: str | pathlib.Path) -> Profile:
    """The profile of a shipped device, or of a file or folder; `InputError` where there is none. A shipped name is
    never looked for in the working directory."""
    path = FOLDER / str(device_or_path)
    if str(device_or_path) not in shipped():
        path = pathlib.Path(device_or_path)
    if not path.exists():
        raise InputError("no such profile", field="profile", value=str(device_or_path), allowed=shipped())
    files = sorted(path.glob("*.toml")) if path.is_dir() else [path]
    read = [read_file(file) for file in files]
    return Profile(device=read[0].device if read else path.name, kernel=tuple(k for f in read for k in f.kernel))


def shipped() -> list[str]:
    """Devices that have a fitted profile of their own."""
    return sorted(p.name for p in FOLDER.iterdir() if p.is_dir()) if FOLDER.exists() else []


def read_file(file: pathlib.Path) -> ProfileFile:
    """One checked file: known kinds, formats, parameter names, finite values. Kept until the file changes."""
    return _read_file(file, file.stat().st_mtime_ns if file.exists() else 0)


@functools.lru_cache(maxsize=512)
def _read_file(file: pathlib.Path, changed_ns: int) -> ProfileFile:
    del changed_ns
    try:
        raw = read_toml(file)
        if raw.get("kind") == "device":  # a device's file that carries its own
            raw = raw.get("calibration", {})
        read = ProfileFile.model_validate(raw)
    except pydantic.ValidationError as e:
        raise from_validation(e, file) from e
    for kernel in read.kernel:
        _check(kernel, file)
    return read


def _check(kernel: Kernel, file: pathlib.Path) -> None:
    if kernel.kind not in FORMS:
        raise InputError("no such kind", file=file, field="kind", value=kernel.kind, allowed=sorted(FORMS))
    if kernel.format != "any" and kernel.format not in FORMAT_CODE:
        raise InputError("no such format", file=file, field="format", value=kernel.format, allowed=list(FORMAT_CODE))
    names = FORMS[kernel.kind].names
    for name, value in kernel.parameter.items():
        if name not in names:
            raise InputError("no such parameter", file=file, field="parameter", value=name, allowed=list(names))
        if not np.isfinite(value) or value < 0:
            raise InputError("not a finite number >= 0", file=file, field=name, value=value)
    if kernel.padded and kernel.kind != "attn_decode":
        raise InputError("attention of decodes alone", file=file, field="padded", value=True, allowed="attn_decode")
    missing = [name for name in names if name not in kernel.parameter]
    if missing:
        raise InputError(f"parameter {missing[0]} is missing", file=file, field="name", value=kernel.name)


def vector(kind: str, parameter: Mapping[str, float], *, eager: bool = False) -> Floats:
    """The fit vector `[NUM_FIT]` of a kernel. With `eager`, as its benchmark ran it: the host's dispatch time that
    hides a short kernel, and weights that repetitions leave in cache; without, as a CUDA graph of a whole model
    runs it."""
    slots = np.zeros(NUM_FIT)
    for i, name in enumerate(FORMS[kind].names):
        slots[i] = parameter[name] if eager or name not in EAGER else 0.0
    return slots


def fit_array(
    profile: Profile | None,
    *,
    named: Mapping[tuple[str, str], str] | None = None,
    eager: bool = False,
) -> Floats:
    """`fit[NUM_KIND, NUM_FORMAT, NUM_FIT]` of a machine.

    Ideal vectors (speed of light) where `profile` is None or knows nothing of a kind. A format that was not
    measured takes the constants of its nearest relative (`FORMAT_RELATIVES`); its own peak rate and bytes enter
    through the machine and the operator. `named` picks kernels other than the defaults by (kind, format).
    """
    fit = np.zeros((NUM_KIND, NUM_FORMAT, NUM_FIT))
    for kind, form in FORMS.items():
        ideal = vector(kind, dict(zip(form.names, form.ideal, strict=True)))
        for fmt in FORMATS:
            kernel = None
            for relative in (fmt.name, *FORMAT_RELATIVES.get(fmt.name, ())):
                if profile is not None and kernel is None:
                    kernel = profile.find(kind, relative, (named or {}).get((kind, relative)))
            if profile is not None and kernel is None and kind in KIND_RELATIVES:
                kernel = profile.find(KIND_RELATIVES[kind], fmt.name)
            if kernel is None and profile is not None and kind in EXCHANGE_KINDS:
                kernel = exchange_of_peers(profile, kind)
            slots = ideal if kernel is None else vector(kind, kernel.parameter, eager=eager)
            if kernel is not None and kernel.padded:
                slots[PADDED] = 1.0
            fit[KIND_CODE[kind], FORMAT_CODE[fmt.name]] = slots
    return fit


def exchange_of_peers(profile: Profile, kind: str) -> Kernel | None:
    """An expert exchange where nobody measured one: by the library's messages to all peers, a row once a device."""
    peers = profile.find("all_to_all", "any")
    if peers is None:
        return None
    own = peers.parameter
    known = {
        "start_s": own["launch_s"] + own["simple_s"], "peer_s": own["ll_hop_s"], "node_s": RING_NET_S[SIMPLE],
        "up_eff": own["simple_eff"], "out_eff": own["out_eff"],
    }  # fmt: skip
    parameter = dict(zip(FORMS[kind].names, FORMS[kind].ideal, strict=True)) | known
    return Kernel(kind=kind, format="any", name=peers.name, default=True, data=peers.data, parameter=parameter)


def write_file(file: pathlib.Path, content: ProfileFile) -> None:
    """Writes one of the profiles that ship (atomically: a failed write leaves the old file): what
    `hw_models.calibration.shipped` makes goes into the package itself. All else is written by `sim.record.write`."""
    import tomli_w

    raw: dict[str, Any] = content.model_dump(exclude_defaults=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    new.write_text(tomli_w.dumps(raw))
    new.replace(file)


assert set(FORMS) <= set(KINDS)
