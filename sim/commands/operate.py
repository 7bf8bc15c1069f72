"""`ridgeline operate`: a load on replicas, or on pools, that are scaled with it, drained, lost and replaced."""

import argparse
from typing import TYPE_CHECKING, Any

from sim.run import scenario_arguments

if TYPE_CHECKING:
    from sim.cluster.simulate_mixed_operation import MixedOperatedRun
    from sim.cluster.simulate_operation import OperatedRun
    from sim.cluster.simulate_pools_operation import OperatedPoolsRun
    from sim.run.scenario import Scenario

HELP = "replicas, or pools, that are scaled with the load, drained, lost and replaced: latencies, engine hours, events"
UNREAD = ("goodput",)
USUAL = {"prefill": "", "decode": "", "transfer": "whole", "latency_s": 0.0, "link_gbps": 0.0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from sim.commands.pools import add_pools

    scenario_arguments.add(parser, unread=UNREAD)
    parser.add_argument(
        "--operation", metavar="FILE",
        help="TOML with an [operation] table (default: the one of the scenario's file)",
    )  # fmt: skip
    parser.add_argument("--scaler", default="", metavar="RULE", help="rule of scaling, in place of the table's")
    parser.add_argument("--load-gbps", type=float, default=0.0, metavar="X", help="likewise, storage to a replica")
    add_pools(parser)
    parser.add_argument("--html", metavar="FILE", help="write the run as one page that needs no network")
    parser.add_argument("--json", metavar="FILE", help="write the tables")


def run(arguments: argparse.Namespace) -> int:
    from sim.run.scenario import read_toml

    values = read_toml(arguments.scenario) if arguments.scenario else {}
    if "pool" in values and (given := _mixed_pools(values["pool"])):
        return _mixed(arguments, values, given)
    if arguments.prefill or arguments.decode or "pool" in values:
        return _pools(arguments, values)
    return _replicas(arguments, values)


def _table(arguments: argparse.Namespace, values: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """The [operation] table, and its file."""
    from kernels.errors import InputError
    from sim.run.scenario import read_toml

    file = arguments.operation or arguments.scenario
    found = read_toml(arguments.operation).get("operation") if arguments.operation else values.get("operation", {})
    if not isinstance(found, dict):
        raise InputError("has no [operation] table", file=file, field="operation", value=found)
    return dict(found), file


def _replicas(arguments: argparse.Namespace, values: dict[str, Any]) -> int:
    from kernels.errors import InputError
    from sim.cluster.operation import from_table
    from sim.show.ending import end
    from sim.show.report import load_words
    from sim.show.tables import table

    for name, usual in USUAL.items():
        if (value := getattr(arguments, name)) != usual:
            raise InputError("has no effect without pools", field=name, value=value, allowed=str(usual))
    rules, file = _table(arguments, values)
    rules |= {"scaler": arguments.scaler} if arguments.scaler else {}
    rules |= {"load_GBps": arguments.load_gbps} if arguments.load_gbps else {}
    operation, scenario = from_table(rules, file), scenario_arguments.build(arguments, beside=("operation",))
    scenario_arguments.check_known(scenario)

    from sim.cluster.simulate_operation import simulate_operation

    done = simulate_operation(scenario, operation)
    _page(done, arguments)
    state = {"load_state": done.load_state, "queue_drift": done.queue_drift}
    tables = {"rows": done.summary, "figures": done.figures, "events": done.events, **state}
    return end(
        arguments, tables, [table(done.summary), table(done.figures), load_words(state)],
        served=int(done.requests["served"].sum()), complete=done.complete,
    )  # fmt: skip


def _pools(arguments: argparse.Namespace, values: dict[str, Any]) -> int:
    from kernels.errors import InputError
    from sim.cluster.operation import pools_from_table
    from sim.show.ending import end
    from sim.show.report import load_words
    from sim.show.tables import table

    for name in ("scaler", "load_gbps"):
        if value := getattr(arguments, name):
            raise InputError("each pool has its own, in [operation.prefill] and [operation.decode]", field=name,
                             value=value)  # fmt: skip
    rules, file = _table(arguments, values)
    operation = pools_from_table(rules, file)
    scenario, change = _split(arguments, values)
    scenario_arguments.check_known(scenario)

    from sim.cluster.simulate_pools_operation import simulate_pools_operation

    done = simulate_pools_operation(
        scenario, change["prefill"], change["decode"], operation, transfer=arguments.transfer,
        latency_s=arguments.latency_s, link_byte_per_s=arguments.link_gbps * 1e9,
    )  # fmt: skip
    _page(done, arguments)
    state = {"load_state": done.load_state, "queue_drift": done.queue_drift}
    tables = {"rows": done.summary, "figures": done.figures, "events": done.events, "pools": done.pools, **state}
    lines = [table(done.summary), table(done.figures), table(done.pools), load_words(state)]
    return end(arguments, tables, lines, served=int(done.requests["served"].sum()), complete=done.complete)


def _page(done: "OperatedRun | OperatedPoolsRun | MixedOperatedRun", arguments: argparse.Namespace) -> None:
    """The page, where it was asked for and anything was served."""
    if not arguments.html or not done.requests["served"].any():
        return
    import pathlib

    from sim.record.write import write_files
    from sim.show.page.operation_page import operation_page_bytes

    write_files({pathlib.Path(arguments.html): operation_page_bytes(done)})


def _mixed_pools(tables: Any) -> list[dict[str, Any]]:
    """The `[[pool]]` tables, where each prefills and decodes; else none."""
    known = isinstance(tables, list) and all(isinstance(one, dict) for one in tables)
    return tables if known and all(one.get("role", "mixed") == "mixed" for one in tables) else []


def _mixed(arguments: argparse.Namespace, values: dict[str, Any], tables: list[dict[str, Any]]) -> int:
    """Pools that each do both, under `[pool.operation]` tables of their own, else under the file's [operation]."""
    from kernels.errors import InputError
    from sim.cluster.operation import from_table as rules_of
    from sim.recommend.deployment import from_table
    from sim.show.ending import end
    from sim.show.report import load_words
    from sim.show.tables import table

    for name, usual in {"scaler": "", "load_gbps": 0.0, **USUAL}.items():
        if (value := getattr(arguments, name)) != usual:
            raise InputError("has no effect beside pools that prefill and decode", file=arguments.scenario, field=name,
                             value=value, allowed=str(usual))  # fmt: skip
    common, file = _table(arguments, values)
    rules = [rules_of(one.get("operation", common), file) for one in tables]
    plain = [{name: value for name, value in one.items() if name != "operation"} for one in tables]
    kept = {name: value for name, value in values.items() if name != "operation"}
    deployment = from_table(kept | {"pool": plain}, arguments.scenario)
    scenario = scenario_arguments.build(arguments, beside=("operation", "pool"))
    scenario_arguments.check_known(scenario)

    from sim.cluster.simulate_mixed_operation import simulate_mixed_operation

    pools = deployment.pools
    done = simulate_mixed_operation(
        scenario, [dict(one.change) for one in pools], rules, share=[one.share for one in pools]
    )  # fmt: skip
    state = {"load_state": done.load_state, "queue_drift": done.queue_drift}
    _page(done, arguments)
    shown = {"rows": done.summary, "figures": done.figures, "events": done.events, **state}
    return end(
        arguments, shown, [table(done.summary), table(done.figures), load_words(state)],
        served=int(done.requests["served"].sum()), complete=done.complete,
    )  # fmt: skip


def _split(arguments: argparse.Namespace, values: dict[str, Any]) -> "tuple[Scenario, dict[str, dict[str, Any]]]":
    """The scenario, and the fields in which each pool differs from it: those of the file's `[[pool]]` tables, or of
    `--prefill` and `--decode`."""
    from kernels.errors import InputError
    from sim.commands.pools import changes
    from sim.recommend.deployment import from_table

    if "pool" not in values:
        change = {role: changes(role, getattr(arguments, role)) for role in ("prefill", "decode")}
        return scenario_arguments.build(arguments, beside=("operation",)), change
    for role in ("prefill", "decode"):
        if value := getattr(arguments, role):
            raise InputError("has no effect beside the pools of a file", file=arguments.scenario, field=role,
                             value=value)  # fmt: skip
    deployment = from_table({name: value for name, value in values.items() if name != "operation"}, arguments.scenario)
    change = {pool.role: dict(pool.change) for pool in deployment.pools}
    return scenario_arguments.build(arguments, beside=("operation", "pool")), change
