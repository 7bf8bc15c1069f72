"""`ridgeline schedule`: build or read a pipeline schedule, replay it, draw it."""

import argparse

HELP = "replay a pipeline schedule: times, bubbles, memory, drawing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="schedule name, a schedule file (.py), an order in torch's CSV (.csv), or 'list'")
    parser.add_argument("--stages", type=int, help="pipeline ranks")
    parser.add_argument("--microbatches", type=int)
    parser.add_argument("--chunks", type=int, help="chunks a rank, for schedules that loop")
    parser.add_argument("--times", help="integer times of forward, input gradient, weight gradient (default: 1,1,1)")
    parser.add_argument(
        "--stage-times", metavar="FILE", help="CSV with columns forward, input_grad, weight_grad, a row a stage"
    )
    parser.add_argument(
        "--recompute", type=int, default=0, help="integer time of recomputing a forward (its own operation)"
    )
    parser.add_argument("--hop", type=int, default=0, help="integer time from a stage to the next on another rank")
    parser.add_argument(
        "--overlap-time", type=int, help="time of an overlapped forward and backward (default: their sum)"
    )
    parser.add_argument(
        "--memory", default="1,0,-1", help="change of memory by forward, input gradient, weight gradient"
    )
    parser.add_argument("--limit", type=int, help="memory limit of schedules that plan under one")
    parser.add_argument(
        "--option", action="append", default=[], metavar="KEY=VALUE", help="another option of the schedule"
    )
    parser.add_argument("--plot", metavar="FILE", help="draw it (.svg, .png, .pdf)")
    parser.add_argument("--trace", metavar="FILE", help="write a Chrome trace, a tick a microsecond")
    parser.add_argument("--json", metavar="FILE", help="write the summary, ranks and operations")
    parser.add_argument("--csv", metavar="FILE", help="write the order in torch's pipeline CSV")


def run(arguments: argparse.Namespace) -> int:
    from sim.pipeline.schedule_run import execute

    print(execute(**{k: v for k, v in vars(arguments).items() if k not in ("command", "run")}))
    return 0
