"""Every policy, router and progress model with its options, as rows."""

from typing import Any

from sim.serving.plugin import PACKAGE, Option, find, names, options_of


def plugin_rows() -> list[dict[str, Any]]:
    """One row a policy, router and progress model: kind, name, help, whether it is compiled, options.

    >>> [row["name"] for row in plugin_rows() if row["kind"] == "policy"]
    ['lightllm', 'mnemosyne', 'orca', 'sarathi', 'sglang', 'splitwise', 'static', 'trtllm', 'vllm_v0', 'vllm_v1']
    """
    rows = []
    for kind in PACKAGE:
        for name in names(kind):
            plugin = find(kind, name)
            options = [
                {"name": key, "default": option.default, "help": option.help, "allowed": _allowed(option)}
                for key, option in options_of(plugin.module).items()
            ]
            text = str(getattr(plugin.module, "HELP", ""))
            rows.append({"kind": kind, "name": name, "help": text, "compiled": plugin.compiled, "options": options})
    return rows


def _allowed(option: Option) -> str:
    if option.choices:
        return ", ".join(option.choices)
    return f"{option.low:.12g} to {option.high:.12g}"
