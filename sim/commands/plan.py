"""`ridgeline plan`: search over training plans."""

import argparse

HELP = "search training plans: every plan that fits, the fastest, the Pareto front, batch trade-offs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help="a model's name or its config.json")
    parser.add_argument("--system", required=True, help="a device, node or system of the catalogue")
    parser.add_argument("--gpus", help="devices, or several sizes with commas between")
    parser.add_argument("--batch", help="sequences a step, or several with commas between")
    parser.add_argument(
        "--from", dest="job", metavar="FILE",
        help="model, batch, sequence and format of a job as its software has it (as `train --from`); its groups are "
        "what is searched",
    )  # fmt: skip
    parser.add_argument("--set-aside", default="", help="arguments of the file to leave out, with commas between")
    parser.add_argument("--space", default="schedules", help="schedules, or execution (Calculon's axes)")
    parser.add_argument("--seq", type=int)
    parser.add_argument("--cp", default="1", help="context parallel sizes to try, with commas between")
    parser.add_argument("--max-tp", type=int, default=64)
    parser.add_argument("--format", help="compute format (bf16)")
    parser.add_argument("--stack", help="fitted constants: a name, a .toml file, or sol")
    parser.add_argument("--top", type=int, default=10, help="plans to replay exactly and print")
    parser.add_argument("--guided", type=int, metavar="TRIALS", help="Optuna instead of every plan")
    parser.add_argument(
        "--critical-batch", type=float, help="judge by time to a target: critical batch size, sequences"
    )
    parser.add_argument("--steps", metavar="FILE", help="judge by time to a target: a CSV of steps by batch")
    parser.add_argument("--min-steps", type=float, help="steps to the target at endless batch (default: 10,000)")
    parser.add_argument("--json", metavar="FILE", help="write the plans, the front and the counts")


def run(arguments: argparse.Namespace) -> int:
    from sim.training.plan_run import execute

    text, complete = execute(**{k: v for k, v in vars(arguments).items() if k not in ("command", "run")})
    print(text)
    return 0 if complete else 130
