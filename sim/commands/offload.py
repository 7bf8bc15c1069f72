"""`ridgeline offload`: a model too large for its device, its tensors shared out over device, host and disk."""

import argparse
from typing import Any

HELP = "a model too large for its device: tensors on device, host and disk, a block of batches a layer at a time"
SHARED = ("weight", "cache", "hidden")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", metavar="RUN.toml", help="a run as a file; options win over it")
    parser.add_argument("--model", help="a ready model or the path of its config.json (default: opt-30b)")
    parser.add_argument("--system", help="a machine whose node has a host link (default: n1_t4)")
    parser.add_argument("--prompt", type=int, metavar="N", help="tokens of every prompt (default: 512)")
    parser.add_argument("--output", type=int, metavar="N", help="tokens of every answer (default: 32)")
    parser.add_argument("--fidelity", help="sol or calibrated (default: calibrated)")
    parser.add_argument("--stack", help="rates of the software that moves tensors: sol, flexgen, a path (default: sol)")
    parser.add_argument("--weight-format", help="of the weights (default: fp16)")
    parser.add_argument("--find", action=argparse.BooleanOptionalAction,
                        help="search sizes and shares by linear programming")  # fmt: skip
    parser.add_argument(
        "--batch", type=int, metavar="N", help="sequences that the device computes at once (default: 1)"
    )
    parser.add_argument("--num-batch", type=int, metavar="N", help="batches of a block (default: 1)")
    for name in SHARED:
        parser.add_argument(f"--{name}", metavar="D,H,S", help=f"shares of {name} on device, host and disk")
    for name, text in (
        ("host-attention", "the host attends over what the device does not hold"),
        ("pack-weight", "weights in 4 bits"), ("pack-cache", "keys and values in 4 bits"),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, help=text)
    parser.add_argument("--schedule", help="stream, step or serial (default: stream)")
    parser.add_argument("--json", metavar="FILE", help="write policy, figures and the end of every token")


def run(arguments: argparse.Namespace) -> int:
    from sim.offload.file import build, read
    from sim.offload.policy import TIERS
    from sim.offload.simulate import offload
    from sim.record.export import write_json
    from sim.show.tables import table

    given = {k: v for k, v in vars(arguments).items() if v is not None and k not in ("command", "run", "file", "json")}
    for name in SHARED:
        if name in given:
            given[name] = _shares(name, given[name])
    keywords: dict[str, Any] = build({**(read(arguments.file) if arguments.file else {}), **given}, arguments.file)
    done = offload(**keywords)
    if arguments.json:
        rows = [{"token": i, "end_s": ps / 1e12} for i, ps in enumerate(done.replayed.token_end_ps)]
        tables = {"figures": done.summary, "placement": done.placement, "rows": rows}
        sizes = {"batch": done.policy.batch, "num_batch": done.policy.num_batch}
        write_json({**tables, **sizes, "token_per_s": done.replayed.token_per_s}, arguments.json)
    p = done.policy
    print(f"{p.num_batch} batches of {p.batch} sequences a block; shares on {', '.join(TIERS)}:")
    print(table(done.placement))
    print(table(done.summary))
    return 0


def _shares(name: str, text: str) -> tuple[float, ...]:
    """`0.2,0.8,0` as numbers.

    >>> _shares("weight", "0.2,0.8,0")
    (0.2, 0.8, 0.0)
    """
    from kernels.errors import InputError

    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError("not shares", field=name, value=text, allowed="three numbers with commas between") from None
