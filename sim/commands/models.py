"""`ridgeline models`: the ready models, one model in detail, any `config.json`, or a folder of them."""

import argparse
from typing import Any

HELP = "list models: parameters, KV bytes a token, layers, context"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="one model (all by default)")
    parser.add_argument("--config", metavar="FILE", help="a Hugging Face config.json instead of a ready model")
    parser.add_argument("--check", metavar="DIR", help="read every config.json in a folder: a line each, or why not")
    parser.add_argument(
        "--format", default="", help="number formats, such as fp8 or w4a16:kv=fp8 (the checkpoint's own)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the rows as JSON")


def describe(model: Any, formats: str = "") -> dict[str, Any]:
    """One model as a flat row: what it is, its parameters, bytes of its weights and of its KV a token."""
    from workloads import kv, memory, models, placement
    from workloads.formats import of

    spec = models.load(model)
    chosen = of(spec, formats)
    one = placement.Placement()
    first = next((block.attention for block in spec.block if block.attention.num_head), spec.block[0].attention)
    kept = kv.groups(spec, chosen, one)
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
        "kv_byte_per_token": kv.token_byte(kept),
        "state_byte_per_sequence": kv.state_byte(kept),
        "format": chosen.label(),
    }


def run(arguments: argparse.Namespace) -> int:
    from kernels.errors import InputError
    from sim.record.export import write_json
    from workloads import models

    if arguments.name and arguments.config:
        raise InputError("give a name or --config, not both", field="--config", value=arguments.config)
    if arguments.check:
        if arguments.name or arguments.config:
            raise InputError("give --check alone", field="--check", value=arguments.check)
        return _check(arguments)
    if arguments.config:
        chosen: list[Any] = [models.read_config(arguments.config)]
    else:
        chosen = [arguments.name] if arguments.name else list(models.names())
    rows = [describe(model, arguments.format) for model in chosen]
    if arguments.json:
        write_json({"models": rows}, arguments.json)
    print(_detail(rows[0]) if len(rows) == 1 else _table(rows))
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from kernels.errors import NothingServedError
    from sim.record.export import write_json
    from workloads.model_check import check

    rows = check(arguments.check, arguments.format or "stored")
    if not rows:
        raise NothingServedError("no configuration in this folder", field="check", value=arguments.check)
    if arguments.json:
        write_json({"rows": rows}, arguments.json)
    width = max([len(row["file"]) for row in rows], default=4)
    print(
        f"{'file':{width}} {'param':>10} {'active':>9} {'weights':>12} {'B/token':>9} {'state':>10} "
        f"{'context':>9} format"
    )
    for r in rows:
        if r["reason"] is not None:
            print(f"{r['file']:{width}} {r['reason']}")
        else:
            print(
                f"{r['file']:{width}} {r['param'] / 1e9:9.3f}B {r['active_param'] / 1e9:8.3f}B "
                f"{r['weight_byte'] / 2**30:8.2f} GiB {r['kv_byte_per_token']:9,d} "
                f"{r['state_byte_per_sequence'] / 2**20:6.1f} MiB {r['context']:9,d} {r['format']}"
            )
    print(f"{sum(row['reason'] is None for row in rows)} of {len(rows)} load")
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
