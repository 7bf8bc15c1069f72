"""`ridgeline pools`: a load on a pool that prefills and one that decodes."""

import argparse
from typing import Any

from sim.run import scenario_arguments

HELP = "prompts on one pool of engines, decodes on another, KV handed over: latencies, transfers, use of both"

UNREAD = ("goodput", "price_USDph", "run_ahead", "timeout_s")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    scenario_arguments.add(parser, unread=UNREAD)
    add_pools(parser)
    parser.add_argument("--json", metavar="FILE", help="write the tables")
    parser.add_argument("--trace", metavar="FILE", help="write requests, transfers and links as a Chrome trace")


def add_pools(parser: argparse.ArgumentParser) -> None:
    """Options that say what two pools are, and what lies between them."""
    for role in ("prefill", "decode"):
        parser.add_argument(
            f"--{role}", default="", metavar="FIELD=VALUE,...",
            help=f"fields in which the {role} pool differs (dp: its engines)",
        )  # fmt: skip
    parser.add_argument(
        "--transfer", default="whole", help="rule of KV transfer: whole, layered, or a path of its file"
    )
    parser.add_argument("--latency-s", type=float, default=0.0, metavar="X", help="added to a hand-over (default: 0)")
    parser.add_argument(
        "--link-gbps", type=float, default=0.0, metavar="X",
        help="GB/s a direction between an engine and the network; 0: its machine's ports",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    if (code := _deployed(arguments)) is not None:
        return code
    scenario = scenario_arguments.build(arguments)
    scenario_arguments.check_known(scenario)
    prefill, decode = (changes(role, getattr(arguments, role)) for role in ("prefill", "decode"))

    from sim.cluster.simulate import simulate_pools
    from sim.show.ending import end
    from sim.show.report import load_words
    from sim.show.tables import table

    done = simulate_pools(
        scenario, prefill, decode, transfer=arguments.transfer, latency_s=arguments.latency_s,
        link_byte_per_s=arguments.link_gbps * 1e9,
    )  # fmt: skip
    served, state = int(done.requests["served"].sum()), {"load_state": done.load_state, "queue_drift": done.queue_drift}
    tables = {"rows": done.summary, "pools": done.pools, "requests": len(done.requests), "served": served, **state}
    moved = f"{served} of {len(done.requests)} requests served, {done.result.moved_byte / 1e9:.3f} GB of KV handed over"
    if arguments.trace:
        done.trace(arguments.trace)
    lines = [moved, table(done.summary), table(done.pools), load_words(state)]
    return end(arguments, tables, lines, served=served, complete=done.result.complete)


def _deployed(arguments: argparse.Namespace) -> int | None:
    """Runs a scenario whose file names its pools (`[[pool]]`, as `ridgeline recommend --save` writes them); None where
    it names none."""
    from kernels.errors import InputError
    from sim.run.scenario import read_toml

    values = read_toml(arguments.scenario) if arguments.scenario else {}
    if "pool" not in values:
        return None
    usual = {"prefill": "", "decode": "", "transfer": "whole", "latency_s": 0.0, "link_gbps": 0.0, "trace": None}
    said = {name: value for name, value in vars(arguments).items() if name.startswith("field_") and value is not None}
    given = {name.removeprefix("field_"): value for name, value in said.items()}
    given |= {name: getattr(arguments, name) for name in usual if getattr(arguments, name) != usual[name]}
    for name, value in given.items():
        raise InputError("has no effect beside the pools of a file", file=arguments.scenario, field=name, value=value)

    import pandas as pd

    from sim.recommend.deployment import from_table
    from sim.recommend.outcome import run_deployment
    from sim.show.ending import end
    from sim.show.tables import table

    deployment = from_table(values, arguments.scenario)
    numbers = run_deployment(deployment)
    shown = pd.DataFrame({"metric": list(numbers), "value": pd.Series(list(numbers.values()), dtype=object)})
    tables = {"pools": deployment.words, **numbers}
    return end(arguments, tables, [deployment.words, table(shown)], served=numbers["completed"])


def changes(role: str, text: str) -> dict[str, Any]:
    """`FIELD=VALUE,...` as fields of a scenario.

    >>> changes("decode", "dp=3,system=a100_sxm")
    {'dp': 3, 'system': 'a100_sxm'}
    """
    import dataclasses
    import typing

    from kernels.errors import InputError
    from sim.run.scenario import FIELD_NAMES, Scenario

    hints = typing.get_type_hints(Scenario)
    kind = {field.name: hints[field.name] for field in dataclasses.fields(Scenario)}
    found: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if name not in kind or not equals:
            raise InputError("not FIELD=VALUE", field=role, value=part, allowed=FIELD_NAMES)
        if name in found:
            raise InputError(f"{name} is given twice", field=role, value=text)
        if kind[name] in (int, float, bool):
            found[name] = _number(role, name, value, kind[name])
        else:
            found[name] = value
    return found


def _number(role: str, name: str, text: str, kind: type) -> Any:
    from kernels.errors import InputError

    try:
        return {"true": True, "false": False}[text] if kind is bool else kind(text)
    except (ValueError, KeyError):
        raise InputError(f"{name} is not a {kind.__name__}", field=role, value=text) from None
