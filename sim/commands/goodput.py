"""`ridgeline goodput`: a long training run on machines that fail."""

import argparse

HELP = "goodput of a long training run: failures, checkpoints, restarts, elastic recovery"
MOST_RUN = 100_000  # a mean of so many is known to a third of a per cent of their spread


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--step-s", type=float, required=True, help="seconds of a step")
    parser.add_argument("--gpus", type=int, required=True)
    parser.add_argument("--mtbf-h", type=float, required=True, help="mean time between failures of one device, hours")
    parser.add_argument("--checkpoint-s", type=float, default=0.0, help="training stands while one is written")
    parser.add_argument("--interval-step", type=int, default=0, help="steps between checkpoints (0: Young and Daly's)")
    parser.add_argument("--detect-s", type=float, default=30.0)
    parser.add_argument("--restart-s", type=float, default=300.0)
    parser.add_argument("--repair-s", type=float, default=3600.0)
    parser.add_argument("--spares", type=int, default=0, help="devices that stand by")
    parser.add_argument("--recovery", default="restart", help="restart or elastic")
    parser.add_argument("--dp", type=int, default=1, help="data parallel replicas")
    parser.add_argument("--reshard-s", type=float, default=10.0)
    parser.add_argument("--runs", type=int, default=10, help="independent runs to average")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE", help="write every run")


def run(arguments: argparse.Namespace) -> int:
    import pandas as pd

    from kernels.errors import InputError
    from sim.record.export import write_json
    from sim.run.stop import keeping
    from sim.show.tables import table as text_table
    from sim.training.goodput import Goodput, LongRun, simulate_run

    a = arguments
    if not 1 <= a.runs <= MOST_RUN:
        raise InputError("out of range", field="runs", value=a.runs, allowed=f"1 to {MOST_RUN}")
    usual, idle = LongRun._field_defaults, {"dp": "num_replica", "reshard_s": "reshard_s"}
    if a.recovery == "elastic":
        idle = {"spares": "num_spare"}
    for option, field in idle.items():
        if getattr(a, option) != usual[field]:
            raise InputError(f"has no effect: recovery is {a.recovery}", field=option, value=getattr(a, option))
    job = LongRun(a.steps, a.step_s, a.gpus, a.mtbf_h, a.checkpoint_s, a.interval_step, a.detect_s, a.restart_s,
                  a.repair_s, a.spares, a.recovery, a.dp, a.reshard_s)  # fmt: skip
    runs: list[Goodput] = []
    with keeping(runs) as work:
        for n in range(a.runs):
            runs.append(simulate_run(job, a.seed + n))  # noqa: PERF401 - those that have ended are kept
    table = pd.DataFrame(runs)
    if a.json:
        rest = {} if work.complete else {"complete": False}
        write_json({"mean": table.mean().to_dict(), "run": table} | rest, a.json)
    print(text_table(table.mean().rename_axis("of a run").reset_index(name="mean")))
    return 0 if work.complete else 130
