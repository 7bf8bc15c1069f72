"""`ridgeline roofline`: where each operator of a workload falls under a machine's roofs."""

import argparse

from sim.run import scenario_arguments

HELP = "operators of a prefill and a decode step: FLOPs, bytes, Op/B, time, and what bounds each"


READ = (
    "model", "system", "tp", "pp", "dp", "ep", "attn_dp", "sequence_parallel", "weight_format", "kv_format",
    "expert_skew", "eplb", "kernels", "dispatch", "memory_share", "fidelity", "seed",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    scenario_arguments.add(parser, fields=READ)
    parser.add_argument("--batch", type=int, default=32, help="sequences that decode (default: 32)")
    parser.add_argument("--context", type=int, default=1024, help="tokens each of them has (default: 1024)")
    parser.add_argument("--chunk", type=int, default=1024, help="tokens of the prompt (default: 1024)")
    parser.add_argument("--plot", metavar="FILE", help="draw it (.svg, .png, .pdf)")
    parser.add_argument("--json", metavar="FILE", help="write both tables")


def run(arguments: argparse.Namespace) -> int:
    from kernels.errors import InputError
    from sim.record.export import check_picture, write_json, write_picture
    from sim.show.roofline import draw, roofline, show

    if arguments.plot:
        check_picture(arguments.plot)
    scenario = scenario_arguments.build(arguments, {"fidelity": "sol"})
    for name in ("batch", "context", "chunk"):
        if not 1 <= getattr(arguments, name) <= 10_000_000:
            raise InputError("out of range", field=name, value=getattr(arguments, name), allowed="1 to 10000000")
    points, roofs = roofline(scenario, arguments.batch, arguments.context, arguments.chunk)
    if arguments.json:
        said = {"note": notes} if (notes := scenario_arguments.notes_of(arguments)) else {}
        write_json({"operators": points, "roofs": roofs, **said}, arguments.json)
    if arguments.plot:
        write_picture(draw(points, roofs, scenario), arguments.plot, {"scenario": scenario.digest()})
    print("\n".join([*scenario_arguments.note_lines(arguments), show(points, roofs)]))
    return 0
