"""`ridgeline models`: the ready models, one model in detail, or any `config.json`."""

import argparse
from typing import Any

HELP = "list models: parameters, KV bytes a token, layers, context"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="one model (all by default)")
    parser.add_argument("--config", metavar="FILE", help="a Hugging Face config.json instead of a ready model")
    parser.add_argument("--format", default="bf16", help="number formats, such as fp8 or w4a16:kv=fp8")
    parser.add_argument("--json", metavar="FILE", help="write the rows as JSON")


def describe(model: Any, formats: str = "bf16") -> dict[str, Any]:
    """One model as a flat row: what it is, its parameters, bytes of its weights and of its KV a token."""
    from workloads import memory, models, placement
    from workloads.formats import parse

    spec = models.load(model)
    chosen = parse(formats, spec.family)
    one = placement.Placement()
    first = spec.block[0].attention
    return {
        "model": spec.name,
        "family": spec.family,
        "num_param": models.num_param(spec),
        "num_active_param": models.num_active_param(spec),
        "num_layer": spec.num_layer,
        "hidden": spec.hidden,
        "num_head": first.num_head,
        "num_kv_head": first.num_kv_head,
        "head_dim": first.head_dim,
        "num_expert": max(block.ffn.num_expert for block in spec.block),
        "topk": max(block.ffn.topk for block in spec.block),
        "window": max(block.attention.window for block in spec.block),
        "vocab": spec.vocab,
        "max_context": spec.max_context,
        "weight_byte": sum(memory.weight_byte(spec, chosen, one, 0).values()),
        "kv_byte_per_token": memory.kv_byte_per_token(spec, chosen, one),
    }


def run(arguments: argparse.Namespace) -> int:
    from kernels.errors import InputError
    from sim.record.export import write_json
    from workloads import models

    if arguments.name and arguments.config:
        raise InputError("give a name or --config, not both", field="--config", value=arguments.config)
    if arguments.config:
        chosen: list[Any] = [models.read_config(arguments.config)]
    else:
        chosen = [arguments.name] if arguments.name else list(models.names())
    rows = [describe(model, arguments.format) for model in chosen]
    if arguments.json:
        write_json({"models": rows}, arguments.json)
    print(_detail(rows[0]) if len(rows) == 1 else _table(rows))
    return 0


def _table(rows: list[dict[str, Any]]) -> str:
    names = ("param", "active", "layers", "hidden", "heads", "KV/token", "context")
    widths = (9, 9, 6, 6, 9, 10, 9)
    head = " ".join([f"{'model':20}", *(f"{name:>{width}}" for name, width in zip(names, widths, strict=True))])
    lines = [
        f"{r['model']:20} {r['num_param'] / 1e9:8.2f}B {r['num_active_param'] / 1e9:8.2f}B {r['num_layer']:6d} "
        f"{r['hidden']:6d} {str(r['num_head']) + '/' + str(r['num_kv_head']):>9} "
        f"{r['kv_byte_per_token'] / 1024:6.1f} KiB {r['max_context']:9d}"
        for r in rows
    ]
    return "\n".join([head, *lines])


def _detail(row: dict[str, Any]) -> str:
    return "\n".join(
        f"{key:18} {f'{value:,}' if isinstance(value, int | float) else value}" for key, value in row.items()
    )
