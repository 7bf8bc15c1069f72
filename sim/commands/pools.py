"""`ridgeline pools`: a load on a pool that prefills and one that decodes."""

import argparse
from typing import TYPE_CHECKING, Any

from sim.run import scenario_arguments

if TYPE_CHECKING:
    from sim.cluster.simulate import PooledRun
    from sim.recommend.deployment import Deployment

HELP = "prompts on one pool of engines, decodes on another, KV handed over: latencies, transfers, use of both"

UNREAD = ("goodput", "price_USDph", "run_ahead", "timeout_s")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    scenario_arguments.add(parser, unread=UNREAD)
    add_pools(parser)
    parser.add_argument(
        "--encode", default="", metavar="FIELD=VALUE,...",
        help="a pool of encoders that takes the load's images: system, tp (devices of an encoder), dp (encoders)",
    )  # fmt: skip
    parser.add_argument("--html", metavar="FILE", help="write the run as one page that needs no network")
    parser.add_argument("--trace", metavar="FILE", help="write the run as a timeline for Perfetto")
    parser.add_argument("--json", metavar="FILE", help="write the tables")


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
    prefill = changes("prefill", arguments.prefill)
    decode = None if arguments.decode == "none" else changes("decode", arguments.decode)
    encode = changes("encode", arguments.encode) if arguments.encode else None

    from sim.cluster.simulate import simulate_pools
    from sim.show.ending import end
    from sim.show.report import load_words
    from sim.show.tables import table

    done = simulate_pools(
        scenario, prefill, decode, encode=encode, transfer=arguments.transfer, latency_s=arguments.latency_s,
        link_byte_per_s=arguments.link_gbps * 1e9, record_steps=bool(arguments.html or arguments.trace),
    )  # fmt: skip
    served, state = int(done.requests["served"].sum()), {"load_state": done.load_state, "queue_drift": done.queue_drift}
    tables = {"rows": done.summary, "pools": done.pools, "requests": len(done.requests), "served": served, **state}
    moved = f"{served} of {len(done.requests)} requests served, {done.result.moved_byte / 1e9:.3f} GB of KV handed over"
    lines = [moved, table(done.summary), table(done.pools), load_words(state)]
    if served:
        _write(done, arguments)
    return end(arguments, tables, lines, served=served, complete=done.result.complete)


def _write(done: "PooledRun", arguments: argparse.Namespace) -> None:
    """The page and the timeline, where they were asked for."""
    import pathlib

    from sim.record.write import write_files
    from sim.show.page.pools_page import pools_page_bytes

    found = {arguments.html: pools_page_bytes, arguments.trace: type(done).trace}
    write_files({pathlib.Path(path): make(done) for path, make in found.items() if path})


def _deployed(arguments: argparse.Namespace) -> int | None:
    """Runs a scenario whose file names its pools (`[[pool]]`, as `ridgeline recommend --save` writes them); None where
    it names none."""
    from kernels.errors import InputError
    from sim.run.scenario import read_toml

    values = read_toml(arguments.scenario) if arguments.scenario else {}
    if "pool" not in values:
        return None
    usual = {"encode": "", "prefill": "", "decode": "", "transfer": "whole", "latency_s": 0.0, "link_gbps": 0.0}
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
    if arguments.html or arguments.trace:
        _draw(deployment, arguments)
    numbers = run_deployment(deployment)
    shown = pd.DataFrame({"metric": list(numbers), "value": pd.Series(list(numbers.values()), dtype=object)})
    tables = {"pools": deployment.words, **numbers}
    return end(arguments, tables, [deployment.words, table(shown)], served=numbers["completed"])


def _draw(deployment: "Deployment", arguments: argparse.Namespace) -> None:
    """The page and the timeline of a file's two pools."""
    from kernels.errors import InputError

    if not deployment.split:
        raise InputError(
            "pools of whole engines are replicas, which `ridgeline simulate` draws", file=arguments.scenario,
            field="html" if arguments.html else "trace", value=deployment.words, allowed="a prefill and a decode pool",
        )  # fmt: skip
    from sim.cluster.simulate import run_pools

    done = run_pools({pool.role: pool.scenario(deployment.base) for pool in deployment.pools}, record_steps=True)
    if done.requests["served"].any():
        _write(done, arguments)


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
