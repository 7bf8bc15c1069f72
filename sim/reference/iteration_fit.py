"""Fits an engine profile on single iterations that were measured: decodes of so many sequences, or one prompt.

    python -m sim.reference.iteration_fit FILE... --model NAME --system NAME --left-out decode:8 --title T --out TOML

Five constants: how much longer the stack's kernels take than those of the calibration, and its attention of prompts
than that, the launches of a layer, and the host's time a sequence and for a step that holds a prompt. Steps that
are named `--left-out` are checked, never fitted; those of `--warm-up`, the first of a run, are neither. Least
squares on the logarithm, growing only linearly beyond `DISTURBED`.
"""

import argparse
import dataclasses
import datetime
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from hw_models import catalog
from sim.reference.engine_fit import write
from sim.reference.step_fit import Case, errors, mean_error, search
from sim.serving.engine_profile import EngineProfile, Fit
from sim.validate.steps import measured, read

NAMES: tuple[str, ...] = ("kernel_factor", "prefill_factor", "dispatch_layer_s", "seq_s", "prefill_s")
START = (1.0, 1.0, 5e-4, 5e-4, 1e-2)  # the search's units
FIRST = (1.02, 1.5, 1.0, 1.0, 1.0)  # where it starts, in them


def cases(files: Sequence[str | pathlib.Path], warm_up: Sequence[str] = (), **given: Any) -> list[Case]:
    """Every iteration of decodes or of one prompt, but those named `warm_up`."""
    steps = [step for file in files for step in measured(read(pathlib.Path(file), **given))]
    some = [Case(kind, where, batch, seconds) for kind, where, batch, seconds, _, why in steps if not why]
    return [case for case in some if name(case) not in warm_up]


def name(case: Case) -> str:
    """Its kind and the tokens that it computes.

    >>> from sim.serving.step_time import Batch, Deployment
    >>> name(Case("prefill", Deployment("yi-34b", "dgx_a100"), Batch(num_prompt=1, prompt_len=512), 0.1))
    'prefill:512'
    """
    return f"{case.kind}:{case.batch.num_prompt * case.batch.prompt_len + case.batch.num_decode}"


def fit(some: list[Case], base: EngineProfile, max_round: int = 30) -> EngineProfile:
    """`base` with the constants of `NAMES` fitted on these cases. No kernel is faster than the calibrated one."""
    return search(some, base, NAMES, START, max_round, FIRST, (1.0, 1.0, 0.0, 0.0, 0.0))


def fitted(some: list[Case], left_out: set[str], title: str, data: str, command: str) -> EngineProfile:
    """The profile, with its errors on what was fitted and on what was left out."""
    device = catalog.system(some[0].where.system).device.name
    base = EngineProfile(
        title=title, source=f"fit of {', '.join(NAMES)} on iterations of {data}", step_s=0.0, seq_s=0.0, token_s=0.0,
        request_s=0.0, stream_s=0.0, device=device,
    )  # fmt: skip
    ours = [case for case in some if name(case) not in left_out]
    rest = [case for case in some if name(case) in left_out]
    found = fit(ours, base)
    train, check = (mean_error(part, errors(part, found)) for part in (ours, rest))
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    done = Fit(data, command, today, len(ours), train, check, left_out=f"steps {', '.join(sorted(left_out))}")
    for case in some:
        side = "held out" if name(case) in left_out else "fitted"
        print(f"{case.kind} {case.batch} {case.seconds:.4f} {np.expm1(errors([case], found)[0]):+.3f} {side}")
    print({name: getattr(found, name) for name in NAMES}, train, check)
    return dataclasses.replace(found, fit=done)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m sim.reference.iteration_fit", description="fit an engine profile")
    parser.add_argument("file", metavar="FILE", nargs="+", help="CSV of iterations, as `validate steps` reads it")
    parser.add_argument("--model", required=True)
    parser.add_argument("--system", required=True)
    parser.add_argument("--tp", type=int, default=1)
    parser.add_argument("--title", required=True, help="of the profile")
    parser.add_argument(
        "--left-out", default="", metavar="KIND:N,...", help="steps of so many tokens that are only checked"
    )
    parser.add_argument("--warm-up", default="", metavar="KIND:N,...", help="steps that began a run")
    parser.add_argument("--out", required=True, metavar="TOML")
    given = parser.parse_args(words)
    left_out, warm_up = (set(text.split(",")) - {""} for text in (given.left_out, given.warm_up))
    some = cases(given.file, tuple(warm_up), model=given.model, system=given.system, tp=given.tp)
    files = " ".join(pathlib.Path(file).name for file in given.file)
    command = (
        f"python -m sim.reference.iteration_fit {files} --model {given.model} --system {given.system} --tp {given.tp} "
        f"--left-out {given.left_out} --warm-up {given.warm_up} --title TITLE --out {pathlib.Path(given.out).name}"
    )
    write(pathlib.Path(given.out), fitted(some, left_out, given.title, files, command))
    return 0


if __name__ == "__main__":
    sys.exit(main())
