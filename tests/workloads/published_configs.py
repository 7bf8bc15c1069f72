"""Field values of published `config.json` files, typed in (the fields that decide shapes), with the figures that their
publishers give. Sources: the repository of that name on the Hugging Face hub, unless said otherwise."""

from typing import Any, NamedTuple

from workloads.models.catalogue import FOLDER
from workloads.models.fields import read_json


class Published(NamedTuple):
    config: dict[str, Any]
    param: float  # as published, or by the arithmetic beside it
    active: float = 0.0  # 0: as `param`
    kv_byte: float = 0.0  # a token, 16 bits a value unless the checkpoint says otherwise; 0: not checked
    bound: float = 0.005


def ready(name: str) -> dict[str, Any]:
    """The configuration of a ready model."""
    return read_json(FOLDER / "configs" / f"{name}.json")


def every(period: int, count: int, other: str, last: str) -> list[str]:
    """`last` in every `period`-th layer, `other` in the rest."""
    return [last if (i + 1) % period == 0 else other for i in range(count)]


QWEN3_14B: dict[str, Any] = {
    "model_type": "qwen3", "hidden_size": 5120, "intermediate_size": 17408, "num_hidden_layers": 40,
    "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
    "max_position_embeddings": 40960,
}  # fmt: skip
DEEPSEEK_V3: dict[str, Any] = {
    "model_type": "deepseek_v3", "hidden_size": 7168, "intermediate_size": 18432, "moe_intermediate_size": 2048,
    "num_hidden_layers": 61, "num_attention_heads": 128, "num_key_value_heads": 128, "q_lora_rank": 1536,
    "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "n_routed_experts": 256,
    "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 3, "moe_layer_freq": 1,
    "num_nextn_predict_layers": 1, "topk_method": "noaux_tc", "vocab_size": 129280, "max_position_embeddings": 163840,
    "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096},
    "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                            "weight_block_size": [128, 128]},
}  # fmt: skip
QWEN3_NEXT: dict[str, Any] = {
    "model_type": "qwen3_next", "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 16,
    "num_key_value_heads": 2, "head_dim": 256, "intermediate_size": 5120, "moe_intermediate_size": 512,
    "shared_expert_intermediate_size": 512, "num_experts": 512, "num_experts_per_tok": 10, "decoder_sparse_step": 1,
    "full_attention_interval": 4, "linear_num_key_heads": 16, "linear_num_value_heads": 32, "linear_key_head_dim": 128,
    "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4, "partial_rotary_factor": 0.25, "vocab_size": 151936,
    "max_position_embeddings": 262144, "mlp_only_layers": [],
}  # fmt: skip

PUBLISHED: dict[str, Published] = {
    "Qwen3-14B": Published(QWEN3_14B, 14_768_307_200, kv_byte=163_840),
    # the checkpoint's own count is 671 B (arXiv 2412.19437), 37 B active without the embedding
    "DeepSeek-R1": Published(DEEPSEEK_V3, 671.03e9, 37e9 + 129_280 * 7168, 61 * 576 * 2, 0.02),
    # + 61 indexers: 1536 x 64 x 128, 7168 x (128 + 64) and a norm; their keys are 132 B a token
    "DeepSeek-V3.2": Published(
        ready("deepseek-v3.2"),
        671_026_419_200 + 61 * (1536 * 8192 + 7168 * 192 + 256), kv_byte=61 * (1152 + 132),
    ),
    "Qwen3-Next-80B-A3B": Published(ready("qwen3-next-80b-a3b"), 79.67e9, 3.87e9, 24_576, 0.01),  # card: 80 B
    "Qwen1.5-MoE-A2.7B": Published(
        {"model_type": "qwen2_moe", "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 24,
         "num_attention_heads": 16, "num_key_value_heads": 16, "vocab_size": 151936, "max_position_embeddings": 8192,
         "decoder_sparse_step": 1, "moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632,
         "num_experts_per_tok": 4, "num_experts": 60},
        14.316e9, 2.69e9, 196_608,
    ),  # card: 14.3 B, 2.7 B
    "OLMoE-1B-7B": Published(
        ready("olmoe-1b-7b"),
        6.919e9, 1.282e9, 131_072,
    ),  # arXiv 2409.02060: 6.9 B, 1.3 B
    "Phi-3.5-MoE": Published(
        ready("phi-3.5-moe"),
        41.873e9, 6.64e9, 131_072,
    ),  # card: 41.9 B, 6.6 B
    "OLMo-2-7B": Published(
        ready("olmo-2-7b"),
        7_298_617_344, kv_byte=524_288,
    ),  # arXiv 2501.00656
    "SmolLM3-3B": Published(
        ready("smollm3-3b"),
        3_075_098_624, kv_byte=73_728,
    ),
    "GLM-4.5-Air": Published(
        ready("glm-4.5-air"),
        106.85e9, kv_byte=188_416,
    ),  # arXiv 2508.06471: 106 B
    "GLM-4.5": Published(
        {"model_type": "glm4_moe", "hidden_size": 5120, "intermediate_size": 12288, "moe_intermediate_size": 1536,
         "num_hidden_layers": 92, "num_attention_heads": 96, "num_key_value_heads": 8, "head_dim": 128,
         "n_routed_experts": 160, "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 3,
         "attention_bias": True, "use_qk_norm": True, "vocab_size": 151552, "max_position_embeddings": 131072},
        355e9, kv_byte=376_832, bound=0.01,
    ),  # arXiv 2508.06471: 355 B, 32 B active
    "MiniMax-M2": Published(
        ready("minimax-m2"),
        228.69e9, 11.03e9, 253_952,
    ),  # card: 230 B, 10 B
    "granite-3.1-8b": Published(
        ready("granite-3.1-8b"),
        8_170_848_256, kv_byte=163_840,
    ),
    "internlm2_5-7b": Published(
        {"model_type": "internlm2", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
         "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 92544, "max_position_embeddings": 32768,
         "bias": False, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
        7_737_708_544, kv_byte=131_072,
    ),
    "c4ai-command-r-v01": Published(
        ready("command-r"),
        34_980_831_232, kv_byte=1_310_720,
    ),
    "gpt-neox-20b": Published(
        {"model_type": "gpt_neox", "hidden_size": 6144, "intermediate_size": 24576, "num_hidden_layers": 44,
         "num_attention_heads": 64, "vocab_size": 50432, "max_position_embeddings": 2048},
        20_554_567_680, kv_byte=1_081_344,
    ),  # arXiv 2204.06745: 20.55 B
    "starcoder2-15b": Published(
        {"model_type": "starcoder2", "hidden_size": 6144, "intermediate_size": 24576, "num_hidden_layers": 40,
         "num_attention_heads": 48, "num_key_value_heads": 4, "vocab_size": 49152, "max_position_embeddings": 16384,
         "sliding_window": 4096, "use_bias": True, "tie_word_embeddings": False},
        15_957_889_024, kv_byte=81_920,
    ),
    "mpt-7b": Published(
        {"model_type": "mpt", "d_model": 4096, "n_heads": 32, "n_layers": 32, "expansion_ratio": 4, "max_seq_len": 2048,
         "no_bias": True, "vocab_size": 50432, "attn_config": {"alibi": True}},
        6_649_286_656, kv_byte=524_288,
    ),
    "dbrx-base": Published(
        {"model_type": "dbrx", "d_model": 6144, "n_heads": 48, "n_layers": 40, "max_seq_len": 32768,
         "vocab_size": 100352, "attn_config": {"kv_n_heads": 8},
         "ffn_config": {"ffn_hidden_size": 10752, "moe_num_experts": 16, "moe_top_k": 4}},
        131_596_523_520, 36.5e9, 163_840, 0.01,
    ),
    "glm-4-9b-chat": Published(
        {"model_type": "chatglm", "hidden_size": 4096, "num_attention_heads": 32, "kv_channels": 128,
         "multi_query_group_num": 2, "ffn_hidden_size": 13696, "padded_vocab_size": 151552, "seq_length": 131072,
         "num_layers": 40, "add_qkv_bias": True, "add_bias_linear": False, "multi_query_attention": True},
        9_399_951_360, kv_byte=40_960,
    ),  # checkpoint: 9.40 B
    "Hunyuan-A13B": Published(
        {"model_type": "hunyuan_v1_moe", "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8,
         "intermediate_size": 3072, "moe_intermediate_size": [3072] * 32, "moe_topk": [8] * 32,
         "num_shared_expert": [1] * 32, "num_experts": 64, "num_hidden_layers": 32, "vocab_size": 128167,
         "max_position_embeddings": 32768, "use_qk_norm": True, "tie_word_embeddings": True},
        80.4e9, 13e9, 131_072, 0.025,
    ),  # checkpoint: 80.4 B; card: 13 B
    "ERNIE-4.5-21B-A3B": Published(
        {"model_type": "ernie4_5_moe", "hidden_size": 2560, "intermediate_size": 12288, "moe_intermediate_size": 1536,
         "num_hidden_layers": 28, "num_attention_heads": 20, "num_key_value_heads": 4, "moe_num_experts": 64,
         "moe_k": 6, "moe_layer_start_index": 1, "moe_num_shared_experts": 2, "vocab_size": 103424,
         "max_position_embeddings": 131072, "use_bias": False, "tie_word_embeddings": True},
        21.83e9, kv_byte=57_344,
    ),  # checkpoint: 21.8 B
    "Seed-OSS-36B": Published(
        ready("seed-oss-36b"),
        36_151_104_512, kv_byte=262_144,
    ),
    "dots.llm1": Published(
        {"model_type": "dots1", "hidden_size": 4096, "intermediate_size": 10944, "moe_intermediate_size": 1408,
         "num_hidden_layers": 62, "num_attention_heads": 32, "num_key_value_heads": 32, "n_routed_experts": 128,
         "n_shared_experts": 2, "num_experts_per_tok": 6, "first_k_dense_replace": 1, "moe_layer_freq": 1,
         "vocab_size": 152064, "max_position_embeddings": 32768},
        142.77e9, 14e9, 1_015_808,
    ),  # arXiv 2506.05767: 142 B, 14 B
    "EXAONE-4.0-32B": Published(
        {"model_type": "exaone4", "hidden_size": 5120, "intermediate_size": 27392, "num_hidden_layers": 64,
         "num_attention_heads": 40, "num_key_value_heads": 8, "vocab_size": 102400, "max_position_embeddings": 131072,
         "sliding_window": 4096, "sliding_window_pattern": "LLLG"},
        32.003e9, kv_byte=262_144,
    ),  # arXiv 2507.11407: 32 B
    "Nemotron-Nano-9B-v2": Published(
        {"model_type": "nemotron_h", "hidden_size": 4480, "intermediate_size": 15680, "num_hidden_layers": 56,
         "hybrid_override_pattern": "M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-",
         "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128, "mamba_num_heads": 128,
         "mamba_head_dim": 80, "ssm_state_size": 128, "n_groups": 8, "conv_kernel": 4, "vocab_size": 131072,
         "max_position_embeddings": 131072},
        8.89e9, kv_byte=16_384,
    ),  # arXiv 2508.14444: 8.9 B
    "granite-4.0-h-tiny": Published(
        {"model_type": "granitemoehybrid", "hidden_size": 1536, "intermediate_size": 512,
         "shared_intermediate_size": 1024, "num_hidden_layers": 40, "num_attention_heads": 12, "num_key_value_heads": 4,
         "num_local_experts": 64, "num_experts_per_tok": 6, "mamba_n_heads": 48, "mamba_d_head": 64,
         "mamba_d_state": 128, "mamba_n_groups": 1, "mamba_expand": 2, "mamba_d_conv": 4,
         "layer_types": ["attention" if i in (5, 15, 25, 35) else "mamba" for i in range(40)],
         "tie_word_embeddings": True, "vocab_size": 100352, "max_position_embeddings": 131072},
        6.94e9, kv_byte=8192,
    ),  # checkpoint: 6.94 B
    "GLM-4.7-Flash": Published(
        {"model_type": "glm4_moe_lite", "hidden_size": 2048, "intermediate_size": 10240, "moe_intermediate_size": 1536,
         "num_hidden_layers": 47, "num_attention_heads": 20, "num_key_value_heads": 20, "q_lora_rank": 768,
         "kv_lora_rank": 512, "qk_nope_head_dim": 192, "qk_rope_head_dim": 64, "v_head_dim": 256,
         "n_routed_experts": 64, "n_shared_experts": 1, "num_experts_per_tok": 4, "first_k_dense_replace": 1,
         "vocab_size": 154880, "max_position_embeddings": 202752},
        29.94e9, kv_byte=47 * 576 * 2,
    ),  # card: 30 B
    "Moonlight-16B-A3B": Published(
        {"model_type": "deepseek_v3", "hidden_size": 2048, "intermediate_size": 11264, "moe_intermediate_size": 1408,
         "num_hidden_layers": 27, "num_attention_heads": 16, "num_key_value_heads": 16, "n_shared_experts": 2,
         "n_routed_experts": 64, "kv_lora_rank": 512, "q_lora_rank": None, "qk_rope_head_dim": 64, "v_head_dim": 128,
         "qk_nope_head_dim": 128, "num_experts_per_tok": 6, "moe_layer_freq": 1, "first_k_dense_replace": 1,
         "vocab_size": 163840, "max_position_embeddings": 8192},
        15.96e9, 2.24e9 + 2 * 163_840 * 2048, 31_104, 0.01,
    ),  # arXiv 2502.16982: 15.96 B; 2.24 B active without both embeddings
    "Kimi-K2": Published(
        ready("kimi-k2"),
        1026.4e9, 32.86e9, 70_272,
    ),  # arXiv 2507.20534: 1.04 T with what it counts, 32.6 B active
    "GLM-5": Published(
        ready("glm-5"),
        744e9, kv_byte=78 * (1152 + 132),
    ),  # card: 744 B
    "MiMo-V2-Flash": Published(
        ready("mimo-v2-flash"),
        309e9, 15.4e9, (9 * 4 + 39 * 8) * 320 * 2, 0.01,
    ),  # card: 309 B, 15 B
    "MiniMax-M3": Published(
        ready("minimax-m3"),
        # experts, shared, dense, attention, indexers, routers, embeddings
        57 * 129 * 3 * 6144 * 3072 + 3 * 3 * 6144 * 12288 + 60 * 6144 * 128 * 136 + 57 * 6144 * 128 * 5
        + 57 * 6144 * 128 + 2 * 200064 * 6144,
        kv_byte=60 * 2 * 4 * 128 * 2 + 57 * 128 * 2,
    ),
    "gemma-4-26B-A4B": Published(
        ready("gemma-4-26b-a4b"),
        25.2e9, 3.8e9, 25 * 8192 + 5 * 4096, 0.01,
    ),  # card: 25.2 B, 3.8 B
    "gemma-4-31B": Published(
        ready("gemma-4-31b"),
        30.7e9, kv_byte=50 * 16384 + 10 * 8192,
    ),  # card: 30.7 B
    "gemma-4-E2B": Published(
        {"model_type": "gemma4", "text_config": {
            "model_type": "gemma4_text", "hidden_size": 1536, "intermediate_size": 6144, "num_hidden_layers": 35,
            "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 256, "global_head_dim": 512,
            "sliding_window": 512, "hidden_size_per_layer_input": 256, "num_kv_shared_layers": 20,
            "use_double_wide_mlp": True, "layer_types": every(5, 35, "sliding_attention", "full_attention"),
            "vocab_size": 262144, "vocab_size_per_layer_input": 262144, "max_position_embeddings": 131072}},
        4.63e9, kv_byte=12 * 1024 + 3 * 2048, bound=0.01,
    ),  # card: 5.1 B with the encoders of images (0.15 B) and sound (0.3 B), 2.3 B without the embeddings a layer
    "gemma-3n-E4B": Published(
        {"model_type": "gemma3n", "text_config": {
            "model_type": "gemma3n_text", "hidden_size": 2048, "num_hidden_layers": 35,
            "intermediate_size": [16384] * 35, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 256,
            "vocab_size": 262400, "vocab_size_per_layer_input": 262144, "hidden_size_per_layer_input": 256,
            "altup_num_inputs": 4, "laurel_rank": 64, "num_kv_shared_layers": 15, "sliding_window": 512}},
        6.87e9, kv_byte=20 * 2 * 2 * 256 * 2,
    ),  # checkpoint: 6.87 B without the encoders of images and sound
    "Nemotron-H-8B": Published(
        ready("nemotron-h-8b"),
        8.10e9, kv_byte=4 * 2 * 8 * 128 * 2,
    ),  # checkpoint: 8.1 B
    "Nemotron-3-Nano-30B-A3B": Published(
        ready("nemotron-3-nano-30b-a3b"),
        31.6e9, 3.6e9, 6144, 0.01,
    ),  # arXiv 2512.20848: 31.6 B, 3.6 B with embeddings
    "Nemotron-3-Super-120B-A12B": Published(
        ready("nemotron-3-super-120b-a12b"),
        120.6e9, 12.7e9, 8192, 0.01,
    ),  # card: 120.6 B, 12.7 B
    "Jamba-v0.1": Published(
        ready("jamba-mini"),
        51_570_323_328, 12.1e9, 4 * 2 * 8 * 128 * 2, 0.01,
    ),  # checkpoint; arXiv 2403.19887: 52 B, 12 B
    "granite-4.0-h-small": Published(
        ready("granite-4.0-h-small"),
        32.2e9, 8.8e9, 4 * 2 * 8 * 128 * 2, 0.02,
    ),  # card: 32 B, 9 B; 4 attention and 36 Mamba-2 layers
    "Falcon-H1-7B": Published(
        ready("falcon-h1-7b"),
        7.59e9, kv_byte=44 * 2 * 2 * 128 * 2,
    ),  # checkpoint: 7.59 B
    "Kimi-Linear-48B-A3B": Published(
        ready("kimi-linear-48b-a3b"),
        49.12e9, 3.5e9, 7 * 576 * 2, 0.02,
    ),  # checkpoint: 49.1 B; arXiv 2510.26692: 48 B, 3 B
    "LFM2-1.2B": Published(
        {"model_type": "lfm2", "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32,
         "num_key_value_heads": 8, "block_dim": 2048, "block_ff_dim": 12288, "block_auto_adjust_ff_dim": True,
         "block_ffn_dim_multiplier": 1.0, "block_multiple_of": 256, "conv_L_cache": 3, "conv_bias": False,
         "full_attn_idxs": [2, 5, 8, 10, 12, 14], "vocab_size": 65536, "max_position_embeddings": 128000},
        1_170_340_608, kv_byte=6 * 2 * 8 * 64 * 2,
    ),
    "mamba-2.8b": Published(
        {"model_type": "mamba", "hidden_size": 2560, "intermediate_size": 5120, "num_hidden_layers": 64,
         "state_size": 16, "conv_kernel": 4, "time_step_rank": 160, "vocab_size": 50280},
        2_768_345_600,
    ),
    "MiniMax-Text-01": Published(
        {"model_type": "minimax_text_01", "hidden_size": 6144, "intermediate_size": 9216, "num_hidden_layers": 80,
         "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 128, "num_local_experts": 32,
         "num_experts_per_tok": 2, "attn_type_list": [int((i + 1) % 8 == 0) for i in range(80)], "rotary_dim": 64,
         "shared_intermediate_size": 0, "vocab_size": 200064, "max_position_embeddings": 10240000},
        456e9, 45.9e9 + 2 * 200_064 * 6144, 10 * 2 * 8 * 128 * 2, 0.01,
    ),  # arXiv 2501.08313: 456 B, 45.9 B active without both embeddings
    "DeepSeek-V4-Flash": Published(
        ready("deepseek-v4-flash"),
        284e9, 13e9 + 129_280 * 4096, 21 * (1024 + 132) / 4 + 20 * 1024 / 128, 0.025,
    ),  # card: 284 B, 13 B
    "Step-3.7-Flash": Published(
        {"model_type": "step3p7", "hidden_size": 4096, "intermediate_size": 11264, "num_hidden_layers": 45,
         "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 128, "num_experts": 288,
         "num_experts_per_tok": 8, "moe_intermediate_size": 1280, "share_expert_dim": 1280, "n_shared_experts": 1,
         "first_k_dense_replace": 3, "sliding_window": 512,
         "layer_types": ["sliding_attention" if i % 4 else "full_attention" for i in range(45)],
         "vocab_size": 128896, "max_position_embeddings": 65536},
        42 * (289 * 3 * 4096 * 1280 + 4096 * 288) + 3 * 3 * 4096 * 11264 + 45 * 4096 * 128 * 144 + 2 * 128896 * 4096,
        kv_byte=45 * 2 * 8 * 128 * 2,
    ),
    "Nemotron-NAS-like": Published(
        {"model_type": "nemotron-nas", "hidden_size": 8192, "num_hidden_layers": 4, "num_attention_heads": 64,
         "num_key_value_heads": None, "vocab_size": 128256, "max_position_embeddings": 131072,
         "block_configs": [
             {"attention": {"n_heads_in_group": 8, "no_op": False}, "ffn": {"ffn_mult": 5.25, "no_op": False}},
             {"attention": {"n_heads_in_group": None, "no_op": True}, "ffn": {"ffn_mult": 2.625, "no_op": False}},
             {"attention": {"n_heads_in_group": 16, "no_op": False}, "ffn": {"no_op": True}},
             {"attention": {"no_op": True, "replace_with_linear": True}, "ffn": {"ffn_mult": 1.0, "no_op": False}},
         ]},
        # 5.25 -> 28,672; 2.625 -> 14,336; 1.0 -> 5,461 rounded up to 5,632
        3 * 8192 * (28_672 + 14_336 + 5_632) + 2 * 8192 * 8192 * 2 + 2 * 8192 * 128 * (8 + 4) + 8192 * 8192
        + 2 * 128_256 * 8192 + 8192 * 7,
        kv_byte=(8 + 4) * 2 * 128 * 2,
    ),
}  # fmt: skip
