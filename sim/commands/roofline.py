"""`ridgeline roofline`: where each operator of a workload falls under a machine's roofs."""

import argparse

from sim.run import scenario_arguments

HELP = "operators of a prefill and a decode step: FLOPs, bytes, Op/B, time, and what bounds each"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    scenario_arguments.add(parser)
    parser.add_argument("--batch", type=int, default=32, help="sequences that decode (default: 32)")
    parser.add_argument("--context", type=int, default=1024, help="tokens each of them has (default: 1024)")
    parser.add_argument("--chunk", type=int, default=1024, help="tokens of the prompt (default: 1024)")
    parser.add_argument("--plot", metavar="FILE", help="draw it (.png or .svg)")
    parser.add_argument("--json", metavar="FILE", help="write both tables")


def run(arguments: argparse.Namespace) -> int:
    import pathlib

    from kernels.errors import InputError
    from sim.record.export import figure_bytes, write_files, write_json
    from sim.show.roofline import draw, roofline, show

    scenario = scenario_arguments.build(arguments, {"fidelity": "sol"})
    for name in ("batch", "context", "chunk"):
        if not 1 <= getattr(arguments, name) <= 10_000_000:
            raise InputError("out of range", field=name, value=getattr(arguments, name), allowed="1 to 10000000")
    points, roofs = roofline(scenario, arguments.batch, arguments.context, arguments.chunk)
    print(show(points, roofs))
    if arguments.json:
        write_json({"operators": points, "roofs": roofs}, arguments.json)
    if arguments.plot:
        path = pathlib.Path(arguments.plot)
        if path.suffix not in (".png", ".svg"):
            raise InputError("no such picture format", field="plot", value=arguments.plot, allowed=[".png", ".svg"])
        write_files(
            {path: figure_bytes(draw(points, roofs, scenario), {"scenario": scenario.digest()}, path.suffix[1:])}
        )
    return 0
