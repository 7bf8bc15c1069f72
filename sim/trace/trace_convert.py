"""Execution traces from one file format to another, by what is in the file read and how the file written is named;
and those of many ranks replayed.

==========================  ==========================================================================
read                        Chakra `.et` (also gzipped), Chakra JSON (both forms), Kineto Chrome trace
written from Chakra         `.et`, `.flat.json` (flat nodes), `.trace.json` (Chrome trace), `.json`
written from Kineto         `.csv`: collectives to fit on, or with `kernels` all other kernels by name
==========================  ==========================================================================
"""

import pathlib
from collections.abc import Sequence

from kernels.errors import InputError, NothingServedError
from sim.record.export import csv_bytes
from sim.record.write import write_files
from sim.show.trace_events import trace_bytes
from sim.trace.chakra_timeline import rank_of, trace_events
from sim.trace.kineto import collective_frame, kernel_frame, read_kineto
from workloads import files
from workloads.chakra import Trace, et_bytes, read_et
from workloads.chakra_json import flat_text, json_text, read_json

ENDINGS: tuple[str, ...] = (".et", ".flat.json", ".trace.json", ".json")


def convert(
    source: Sequence[str],
    target: str,
    *,
    kernels: bool = False,
    system: str | None = None,
    groups: str | None = None,
    roofline: bool = False,
) -> str:
    """Convert and return one line of what was written. Several sources: the ranks of one Kineto recording. The options
    of a replay are refused."""
    for field, value in (("system", system), ("groups", groups), ("roofline", roofline)):
        if value:
            raise InputError("goes with replay", field=field, value=value)
    out = pathlib.Path(target)
    paths = [pathlib.Path(name) for name in source]
    if out.suffix == ".csv":
        ranks = [read_kineto(path) for path in paths]
        frame = kernel_frame(ranks[0]) if kernels else collective_frame(ranks)
        if kernels and len(ranks) > 1:
            raise InputError("kernels come from one rank's trace", field="IN", value=len(ranks), allowed="one file")
        if not len(frame):
            raise NothingServedError("no collective in this trace", file=paths[0], field="--kernels", value=kernels)
        write_files({out: csv_bytes(frame, {"source": [path.name for path in paths]})})
        return f"{target}: {len(frame)} rows"
    if kernels:
        raise InputError("kernels are written as .csv", field="OUT", value=target, allowed=".csv")
    if len(paths) > 1:
        raise InputError("one Chakra trace at a time", field="IN", value=len(paths), allowed="one file")
    trace = read_trace(paths[0])
    write_files({out: _content(trace, paths[0], out)})
    return f"{target}: {len(trace.node)} nodes{_dropped([trace])}"


def _dropped(traces: Sequence[Trace]) -> str:
    """What was left out of the traces, in words."""
    count = sum(trace.num_dropped for trace in traces)
    return f"; {count} dependencies on nodes that are not in the file dropped" if count else ""


def read_trace(path: pathlib.Path) -> Trace:
    """A Chakra trace of any form, by its first byte."""
    head = files.read_head(path, 64).removeprefix(b"\xef\xbb\xbf").lstrip()
    return read_json(path) if head[:1] == b"{" and path.suffix != ".et" else read_et(path)


def _content(trace: Trace, source: pathlib.Path, out: pathlib.Path) -> bytes:
    ending = next((end for end in ENDINGS if out.name.endswith(end)), "")
    if ending == ".et":
        return et_bytes(trace)
    if ending == ".flat.json":
        return flat_text(trace).encode()
    if ending == ".trace.json":
        return trace_bytes(trace_events(trace, rank_of(source)), {"source": source.name})
    if ending == ".json":
        return json_text(trace).encode()
    raise InputError("no such format", field="OUT", value=out.name, allowed=[*ENDINGS, ".csv"])


def replay_files(
    source: Sequence[str],
    target: str,
    system: str | None,
    *,
    groups: str | None = None,
    roofline: bool = False,
    kernels: bool = False,
) -> str:
    """Replay the traces of ranks 0, 1, ... (by the number in their names) on a system, write a node a row, and return
    what it took and how collectives were priced: by the machine's calibrated library, else at the links' speed."""
    if system is None:
        raise InputError("which machine?", field="system", value=None, allowed="a name of `ridgeline devices`")
    if kernels:
        raise InputError("goes with convert", field="kernels", value=kernels)
    if not target.endswith(".csv"):
        raise InputError("a table", field="OUT", value=target, allowed=".csv")
    from hw_models import catalog
    from hw_models.device import library_fit
    from hw_models.routes import Routes
    from sim.trace.chakra_replay import link_frame, read_groups, replay_traces

    paths = sorted(map(pathlib.Path, source), key=rank_of)
    if [rank_of(path) for path in paths] != list(range(len(paths))):
        raise InputError("one file for every rank from 0 on, NAME.<rank>.et", field="IN",
                         value=[path.name for path in paths])  # fmt: skip
    routes = Routes(catalog.system(system, len(paths)))
    traces = [read_trace(path) for path in paths]
    if not any(trace.node for trace in traces):
        raise NothingServedError("no node in this trace", file=paths[0])
    fit, calibrated_on = library_fit(routes.system)
    frame, times = replay_traces(
        traces, routes, fit, groups=read_groups(groups) if groups else None, roofline=roofline,
    )  # fmt: skip
    priced = f"calibrated on {calibrated_on}" if calibrated_on else "at the speed of the links: nobody calibrated them"
    about = {"source": [path.name for path in paths], "system": system, "fidelity": "replay", "collectives": priced}
    write_files({pathlib.Path(target): csv_bytes(frame, about)})
    line = f"{target}: {len(paths)} ranks, {len(frame)} nodes, {frame['end_s'].max():.6g} s; collectives {priced}"
    links = link_frame(routes, times)
    line += _dropped(traces)
    if len(links):
        line += f"; busiest link {links['link'].iloc[0]} {links['utilisation'].iloc[0]:.1%}"
    return line
