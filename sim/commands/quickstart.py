"""`ridgeline quickstart`: Llama-3-70B on eight H100 under a conversation load, with a table, plots and a timeline."""

import argparse

from sim.run import scenario_arguments

HELP = "one whole example: Llama-3-70B on 8 H100 under a conversation load"

DEFAULTS = {"model": "llama-3-70b", "system": "dgx_h100", "tp": 8, "requests": "conversation:rate=6,n=2000"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    scenario_arguments.add(parser)
    parser.add_argument(
        "--out", metavar="FOLDER", default="ridgeline-out", help="where files go (default: ridgeline-out)"
    )


def run(arguments: argparse.Namespace) -> int:
    import importlib.util
    import pathlib

    from sim.commands.simulate import exit_code
    from sim.run.results import write_results
    from sim.run.simulate import simulate
    from sim.show.progress import Progress
    from sim.show.report import console

    scenario = scenario_arguments.build(arguments, DEFAULTS)
    with Progress() as progress:
        done = simulate(scenario, record_steps=True, progress=progress, notes=scenario_arguments.notes_of(arguments))
    drawable = importlib.util.find_spec("matplotlib") is not None
    files = write_results(done, pathlib.Path(arguments.out), plots=drawable)
    print(f"{scenario.model} on {scenario.system}, tp {scenario.tp}, {done.result.policy}, {scenario.requests}")
    print(console(done.run, done.metrics))
    print("\n".join(map(str, files)))
    if not drawable:
        print("no pictures: they need the extra, pip install 'ridgeline[plot]'")
    print("timeline.json opens in https://ui.perfetto.dev")
    return exit_code(done)
