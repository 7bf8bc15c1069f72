"""`ridgeline recommend`: which machines, how many, in which pools, for a load at an objective."""

import argparse

HELP = "machines, pools and engine options for a load: the cheapest that meets P99 latencies, and why not the others"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from sim.run import scenario_arguments
    from sim.run.scenario import FIELD_NAMES

    parser.add_argument("--ttft-p99-s", type=float, required=True, metavar="X", help="P99 time to first token at most")
    parser.add_argument("--tpot-p99-s", type=float, required=True, metavar="X",
                        help="P99 time per output token at most")  # fmt: skip
    parser.add_argument("--load", metavar="LOAD", help="the same as --requests")
    parser.add_argument("--systems", metavar="A,B", help="machines to choose among (default: --system)")
    parser.add_argument("--max-devices", type=int, default=64, metavar="N", help="devices at most (default: 64)")
    parser.add_argument("--objective", choices=("cost", "power"), default="cost", help="what is least (default: cost)")
    parser.add_argument("--tps", metavar="A,B", help="tensor parallel sizes (default: all that fit a node)")
    tried = "engine options to try, as in `ridgeline sweep` (default: token_budget=0,512,2048)"
    parser.add_argument("--over", action="append", default=[], metavar="FIELD=VALUES", help=tried)
    parser.add_argument("--pools", default="mixed,split,mix", metavar="A,B",
                        help="kinds of pools (default: mixed,split,mix)")  # fmt: skip
    parser.add_argument("--within", type=float, default=1.5, metavar="X",
                        help="do not look at what costs more than X times the best (default: 1.5)")  # fmt: skip
    parser.add_argument("--top", type=int, default=10, metavar="N", help="lines of the table (default: 10)")
    parser.add_argument("--save", metavar="DIR", help="write each that meets the target as a scenario that runs")
    parser.add_argument("--json", metavar="FILE", help="write every candidate and the frontier")
    parser.add_argument("--csv", metavar="FILE", help="write every candidate as CSV")
    parser.add_argument("--plot", metavar="FILE", help="draw tokens/s a user against tokens/s a GPU, $ and joules")
    parser.add_argument("--html", metavar="FILE", help="write them as one page that needs no network")
    scenario_arguments.add(parser, fields=[name for name in FIELD_NAMES if name not in ("dp", "tp", "goodput")])


def run(arguments: argparse.Namespace) -> int:
    import pathlib
    import sys

    from kernels.errors import InputError
    from sim.recommend.recommend import recommend, save
    from sim.recommend.table import SHOWN, summary
    from sim.record.export import check_picture, table_bytes, write_json, write_picture
    from sim.record.write import check_folder, write_files
    from sim.run import scenario_arguments
    from sim.show.tables import table
    from sim.show.time_left import TimeLeft

    a = arguments
    if a.load is not None:
        if a.field_requests is not None:
            raise InputError("the same as --requests", field="load", value=a.load, allowed="one of the two")
        a.field_requests = a.load
    if a.systems and a.field_system:
        raise InputError("has no effect beside --systems", field="system", value=a.field_system)
    if a.top < 1:
        raise InputError("too small", field="top", value=a.top, allowed="1 and more")
    if a.save:
        check_folder(a.save, "save")
    if a.plot:
        check_picture(a.plot)
    scenario = scenario_arguments.build(a)
    with TimeLeft("deployments") as progress:
        found = recommend(
            scenario, a.ttft_p99_s, a.tpot_p99_s, systems=_words(a.systems), max_devices=a.max_devices,
            objective=a.objective, tp=_sizes(a.tps), over=a.over, pools=_words(a.pools) or (), within=a.within,
            progress=progress,
        )  # fmt: skip
    rows, frame = found.rows, found.frame
    if a.json:
        rest: dict[str, object] = {} if found.complete else {"complete": False}
        rest |= {"note": notes} if (notes := scenario_arguments.notes_of(a)) else {}
        write_json({"rows": rows, "frontier": found.frontier, "simulated": found.num_run, **rest}, a.json)
    if a.csv:
        write_files({pathlib.Path(a.csv): table_bytes(frame)})
    if a.html and any(row["token_per_s_per_user"] is not None for row in rows):
        from sim.show.page.points_page import recommend_page_bytes

        write_files({pathlib.Path(a.html): recommend_page_bytes(found)})
    if a.plot and any(row["token_per_s_per_user"] is not None for row in rows):
        write_picture(found.plot(), a.plot, {"scenario": scenario.digest()})
    saved = save(found, a.save) if a.save else []
    meets = frame[frame["status"] == "meets"]
    demand = found.demand
    for line in scenario_arguments.note_lines(a):
        print(line)
    print(f"{demand.num:,} requests, {demand.words}, {demand.prompt:,.0f} prompt and {demand.output:,.0f} "
          f"output tokens on average; P99 TTFT {a.ttft_p99_s:g} s, P99 TPOT {a.tpot_p99_s:g} s")  # fmt: skip
    print(f"{len(rows):,} candidates, {found.num_run} of them simulated, {len(meets)} meet the target:")
    print(table((meets if len(meets) else frame)[list(SHOWN)].head(a.top)))
    for num, text in summary(rows):
        print(f"{num:5,} {text}")
    for path in saved:
        print(path)
    if not found.complete:
        return 130
    if not len(meets):
        print("ridgeline: no deployment meets the target; the nearest are shown", file=sys.stderr)
        return 3
    return 0


MOST_TP = 4096  # devices of a tensor parallel group


def _words(text: str | None) -> list[str] | None:
    return [part.strip() for part in text.split(",") if part.strip()] if text is not None else None


def _sizes(text: str | None) -> list[int] | None:
    from kernels.digits import whole
    from kernels.errors import InputError

    if text is None:
        return None
    found = [whole(part, MOST_TP) for part in text.split(",")]
    sizes = [number for number in found if number]
    if len(sizes) < len(found):
        raise InputError("not whole numbers with commas between", field="tps", value=text[:80],
                         allowed=f"1 to {MOST_TP} each")  # fmt: skip
    return sizes
