"""Fields that a file leaves out because the class of its architecture fills them in.

Configurations are saved as differences from their class, those of a language model inside a larger one above all
(Gemma 3, LLaVA): what is absent is not unknown. `class_defaults.json` holds, for each `model_type`, the values whose
absence would otherwise be read as another model; a field that is there but null says "none", and stays. A file of its
own states its sizes: without them it is broken, not brief.

Source: the configuration classes of Hugging Face transformers 5.24.
"""

import functools
import json
import pathlib
from typing import Any

TABLE = pathlib.Path(__file__).with_suffix(".json")
SIZE = frozenset(
    ("hidden_size", "n_embd", "d_model", "num_hidden_layers", "n_layer", "n_layers", "num_attention_heads", "n_head",
     "n_heads", "intermediate_size", "vocab_size", "max_position_embeddings", "n_positions", "max_seq_len",
     "num_experts_per_tok")
)  # fmt: skip
ALIAS = (
    ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", "num_routed_experts"),
    ("num_experts_per_tok", "num_experts_per_token", "moe_top_k", "moe_topk", "moe_k", "top_k_experts",
     "experts_per_token"),
    ("n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts"),
    ("moe_intermediate_size", "expert_ffn_hidden_size", "expert_hidden_dim"),
    ("shared_expert_intermediate_size", "share_expert_dim", "moe_shared_expert_intermediate_size",
     "shared_intermediate_size"),
    ("num_key_value_heads", "num_kv_heads", "n_head_kv", "num_attention_groups", "multi_query_group_num"),
    ("num_hidden_layers", "n_layer", "num_layers", "n_layers"),
    ("first_k_dense_replace", "num_dense_layers", "mlp_layer_types", "moe_layers_enum", "moe_layer_freq"),
    ("mamba_ssm_cache_dtype", "mamba_ssm_dtype"),
    ("sliding_window_pattern", "layer_types", "layer_switch"),
)  # fmt: skip


@functools.cache
def _table() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(TABLE.read_text(encoding="utf-8"))
    return found


def filled(raw: dict[str, Any], nested: bool) -> dict[str, Any]:
    """The fields of a file with what its class adds; sizes too where it is `nested` in the file of a larger model.

    >>> filled({"model_type": "mistral", "hidden_size": 4096}, False)["num_key_value_heads"]
    8
    >>> filled({"model_type": "mistral", "num_key_value_heads": None}, False)["num_key_value_heads"] is None
    True
    >>> [filled({"model_type": "mistral"}, nested).get("hidden_size") for nested in (False, True)]
    [None, 4096]
    """
    kind = str(raw.get("model_type"))
    usual = _table().get(kind, _table().get(f"{kind}_text"))
    if usual is None:
        return raw
    said = {name for group in ALIAS if any(name in raw for name in group) for name in group}
    return {
        **{name: value for name, value in usual.items() if (nested or name not in SIZE) and name not in said},
        **raw,
    }
