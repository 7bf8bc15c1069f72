"""Further field values of published `config.json` files, of architectures with parts of their own; see
`published_configs`. A count that is no publisher's is that of the architecture's class in transformers 5.24, or of the
formula beside it."""

from tests.workloads.published_configs import Published, every


def _rwkv7(num_layer: int, hidden: int, decay: int, rate: int, value: int, gate: int) -> Published:
    """arXiv 2503.14456, appendix: 2DV + 4D + LD(12D + 2(dw + da + dv + dg) + 19) - (2D dv + D)."""
    config = {
        "model_type": "rwkv7", "hidden_size": hidden, "num_hidden_layers": num_layer, "vocab_size": 65536,
        "decay_low_rank_dim": decay, "a_low_rank_dim": rate, "v_low_rank_dim": value, "gate_low_rank_dim": gate,
    }  # fmt: skip
    layer = hidden * (12 * hidden + 2 * (decay + rate + value + gate) + 19)
    count = 2 * hidden * 65536 + 4 * hidden + num_layer * layer - (2 * hidden * value + hidden)
    return Published(config, count, bound=1e-12)


NEWER: dict[str, Published] = {
    "LongCat-Flash-Chat": Published(
        {"model_type": "longcat_flash", "hidden_size": 6144, "num_layers": 28, "num_attention_heads": 64,
         "ffn_hidden_size": 12288, "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128,
         "qk_rope_head_dim": 64, "v_head_dim": 128, "moe_topk": 12, "n_routed_experts": 512, "zero_expert_num": 256,
         "expert_ffn_hidden_size": 2048, "vocab_size": 131072, "max_position_embeddings": 131072},
        560e9, 27e9 + 131_072 * 6144, 2 * 28 * 576 * 2,
    ),  # arXiv 2509.01322: 560 B, 27 B active on average
    "Ring-mini-linear-2.0": Published(
        {"model_type": "bailing_moe_linear", "hidden_size": 2048, "intermediate_size": 5120,
         "moe_intermediate_size": 512, "moe_shared_expert_intermediate_size": 512, "num_hidden_layers": 20,
         "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 128, "num_experts": 256,
         "num_experts_per_tok": 8, "num_shared_experts": 1, "first_k_dense_replace": 1, "layer_group_size": 5,
         "use_qk_norm": True, "n_group": 8, "topk_group": 4, "vocab_size": 157184, "max_position_embeddings": 131072,
         "tie_word_embeddings": False},
        16.4e9, 1.6e9, 4 * 2 * 4 * 128 * 2,
    ),  # arXiv 2510.19338: 16.4 B, 1.6 B; four layers of twenty keep keys
    "Ling-3-class": Published(
        {"model_type": "bailing_hybrid", "hidden_size": 2560, "intermediate_size": 6144, "moe_intermediate_size": 768,
         "num_hidden_layers": 42, "num_attention_heads": 32, "num_shared_experts": 1, "kv_lora_rank": 512,
         "q_lora_rank": None, "qk_rope_head_dim": 64, "v_head_dim": 128, "qk_nope_head_dim": 128,
         "num_expert_group": 8, "topk_group": 4, "num_experts_per_token": 8, "first_k_dense_replace": 2,
         "num_experts": 512, "short_conv_kernel_size": 4, "layer_group_size": 6, "linear_num_heads": 32,
         "linear_head_dim": 128, "vocab_size": 157184, "model_max_length": 262144},
        124_414_191_072, kv_byte=7 * 576 * 2,
    ),  # transformers' BailingHybridForCausalLM
    "Ling-2.5-like": Published(
        {"model_type": "bailing_hybrid", "hidden_size": 4096, "intermediate_size": 9216, "moe_intermediate_size": 1024,
         "num_hidden_layers": 32, "num_attention_heads": 32, "num_shared_experts": 1, "kv_lora_rank": 512,
         "q_lora_rank": 1536, "qk_rope_head_dim": 64, "v_head_dim": 128, "qk_nope_head_dim": 128, "head_dim": 128,
         "num_experts_per_tok": 8, "first_k_dense_replace": 1, "num_experts": 256, "layer_group_size": 8,
         "vocab_size": 157184, "max_position_embeddings": 131072},
        # experts; dense part; 28 lightning layers of five squares; 4 latent ones; embedding and head
        31 * (257 * 3 * 4096 * 1024 + 4096 * 256) + 3 * 4096 * 9216 + 28 * 5 * 4096 * 4096
        + 4 * (4096 * (1536 + 576) + 1536 * 32 * 192 + 512 * 32 * 256 + 32 * 128 * 4096) + 2 * 157_184 * 4096,
        kv_byte=4 * 576 * 2,
    ),
    "Step-3": Published(
        {"model_type": "step3_vl", "text_config": {
            "model_type": "step3_text", "hidden_size": 7168, "intermediate_size": 18432, "num_attention_heads": 64,
            "num_attention_groups": 1, "num_hidden_layers": 61, "share_q_dim": 2048, "head_dim": 256,
            "moe_num_experts": 48, "moe_top_k": 3, "moe_intermediate_size": 5120, "share_expert_dim": 5120,
            "moe_layers_enum": ",".join(str(i) for i in range(4, 60)), "vocab_size": 128815,
            "max_position_embedding": 65536}},
        316e9, 38e9, 61 * 2 * 256 * 2, 0.025,
    ),  # arXiv 2507.19427: 316 B of language, 38 B active
    "Grok-2": Published(
        {"model_type": "git", "hidden_size": 8192, "intermediate_size": 32768, "moe_intermediate_size": 16384,
         "num_experts_per_tok": 2, "num_local_experts": 8, "residual_moe": True, "num_attention_heads": 64,
         "num_key_value_heads": 8, "num_hidden_layers": 64, "head_dim": 128, "vocab_size": 131072,
         "max_position_embeddings": 131072},
        270e9, 115e9, 64 * 2 * 8 * 128 * 2,
    ),  # card: 270 B, 115 B active
    "Arctic": Published(
        {"model_type": "arctic", "hidden_size": 7168, "intermediate_size": 4864, "num_hidden_layers": 35,
         "num_attention_heads": 56, "num_key_value_heads": 8, "num_local_experts": 128, "num_experts_per_tok": 2,
         "moe_layer_frequency": 1, "vocab_size": 32000, "max_position_embeddings": 4096},
        480e9, 17e9, 35 * 2 * 8 * 128 * 2,
    ),  # card: 480 B, 17 B active
    "gpt-j-6b": Published(
        {"model_type": "gptj", "n_embd": 4096, "n_head": 16, "n_layer": 28, "n_positions": 2048, "rotary_dim": 64,
         "n_inner": None, "vocab_size": 50400, "tie_word_embeddings": False},
        6_050_882_784, kv_byte=28 * 2 * 4096 * 2, bound=1e-12,
    ),  # the checkpoint's own count
    "Llama-3.2-11B-Vision": Published(
        {"model_type": "mllama", "text_config": {
            "model_type": "mllama_text_model", "hidden_size": 4096, "intermediate_size": 14336,
            "num_hidden_layers": 40, "num_attention_heads": 32, "num_key_value_heads": 8,
            "cross_attention_layers": [3, 8, 13, 18, 23, 28, 33, 38], "vocab_size": 128256,
            "max_position_embeddings": 131072}},
        9_775_192_080, kv_byte=32 * 2 * 8 * 128 * 2, bound=1e-5,
    ),  # transformers' class; eight layers keep keys of images alone
    "ERNIE-4.5-VL-28B-A3B": Published(
        {"model_type": "ernie4_5_moe_vl", "hidden_size": 2560, "intermediate_size": 12288, "num_hidden_layers": 28,
         "num_attention_heads": 20, "num_key_value_heads": 4, "moe_num_experts": [64, 64],
         "moe_intermediate_size": [1536, 512], "moe_k": 6, "moe_num_shared_experts": 2,
         "moe_layer_start_index": [1, 1], "moe_layer_end_index": [29, 28], "vocab_size": 103424,
         "max_position_embeddings": 131072, "tie_word_embeddings": True},
        # the text model of 21B-A3B, and 64 experts for images in 27 layers with their router
        21.825e9 + 27 * 64 * (3 * 2560 * 512 + 2560), 3.35e9, 57_344,
    ),
    "DeepSeek-OCR": Published(
        {"model_type": "deepseek_vl_v2", "language_config": {
            "model_type": "deepseek_v2", "use_mla": False, "hidden_size": 1280, "intermediate_size": 6848,
            "moe_intermediate_size": 896, "n_routed_experts": 64, "n_shared_experts": 2, "num_experts_per_tok": 6,
            "first_k_dense_replace": 1, "num_hidden_layers": 12, "num_attention_heads": 10,
            "num_key_value_heads": 10, "vocab_size": 129280, "max_position_embeddings": 8192, "kv_lora_rank": None,
            "q_lora_rank": None, "qk_nope_head_dim": 0, "qk_rope_head_dim": 0, "v_head_dim": 0,
            "topk_method": "greedy"}},
        # arXiv 2510.18234: 3 B; experts, dense part, attention, routers, embedding and head
        11 * (66 * 3 * 1280 * 896 + 1280 * 64) + 3 * 1280 * 6848 + 12 * 4 * 1280 * 1280 + 2 * 129_280 * 1280,
        0.57e9 + 129_280 * 1280, 12 * 2 * 1280 * 2,
    ),
    "recurrentgemma-2b": Published(
        {"model_type": "recurrent_gemma", "hidden_size": 2560, "intermediate_size": 15360, "num_hidden_layers": 26,
         "num_attention_heads": 10, "num_key_value_heads": 1, "head_dim": 256, "lru_width": 2560,
         "attention_window_size": 2048, "conv1d_width": 4, "block_types": ["recurrent", "recurrent", "attention"],
         "vocab_size": 256000},
        2_682_862_080, kv_byte=8 * 2 * 256 * 2, bound=1e-12,
    ),  # the checkpoint's own count; arXiv 2404.07839: 2.7 B
    "MiniCPM-V-2.6": Published(
        {"model_type": "minicpmv", "version": 2.6, "hidden_size": 3584, "intermediate_size": 18944,
         "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 151666,
         "max_position_embeddings": 32768, "tie_word_embeddings": False},
        7.61e9, kv_byte=57_344,
    ),  # Qwen2-7B
    "OLMo-Hybrid-7B": Published(
        {"model_type": "olmo_hybrid", "hidden_size": 3840, "intermediate_size": 11008, "num_hidden_layers": 32,
         "num_attention_heads": 30, "num_key_value_heads": 30, "linear_num_key_heads": 30, "linear_num_value_heads": 30,
         "linear_key_head_dim": 96, "linear_value_head_dim": 192, "linear_conv_kernel_dim": 4,
         "layer_types": every(4, 32, "linear_attention", "full_attention"), "vocab_size": 100352,
         "max_position_embeddings": 65536},
        7_430_870_688, kv_byte=8 * 2 * 3840 * 2, bound=1e-4,
    ),  # transformers' class
    "Zamba2-2.7B-class": Published(
        {"model_type": "zamba2", "hidden_size": 2560, "num_hidden_layers": 54, "intermediate_size": 10240,
         "num_attention_heads": 32, "n_mamba_heads": 8, "mamba_d_state": 64, "mamba_ngroups": 1,
         "hybrid_layer_ids": [6, 12, 18, 24, 30, 36, 42, 47, 51], "num_mem_blocks": 1, "adapter_rank": 128,
         "vocab_size": 32000, "max_position_embeddings": 4096},
        2_481_848_336, kv_byte=9 * 2 * 32 * 160 * 2, bound=1e-9,
    ),  # transformers' class
    "GLM-5-Next-class": Published(
        {"model_type": "glm5_next_text", "hidden_size": 4096, "intermediate_size": 12288, "moe_intermediate_size": 2048,
         "num_hidden_layers": 45, "num_attention_heads": 64, "n_shared_experts": 1, "n_routed_experts": 288,
         "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_rope_head_dim": 0, "v_head_dim": 256, "qk_nope_head_dim": 256,
         "num_experts_per_tok": 8, "first_k_dense_replace": 3, "index_topk": 2048, "index_head_dim": 128,
         "index_n_heads": 32, "index_kpool": 16, "linear_head_dim": 128, "linear_num_heads": 64,
         "linear_conv_kernel_dim": 4, "hc_mult": 4, "vocab_size": 154880, "max_position_embeddings": 1048576,
         "layer_types": every(4, 45, "linear_attention", "indexed_attention")},
        313_326_816_766, kv_byte=11 * (512 * 2 + 132 / 16), bound=1e-3,
    ),  # transformers' class
    "Inkling-class": Published(
        {"model_type": "inkling_mm_model", "text_config": {
            "model_type": "inkling_text", "hidden_size": 6144, "num_hidden_layers": 66, "num_attention_heads": 64,
            "num_key_value_heads": 8, "head_dim": 128, "swa_num_key_value_heads": 16, "sliding_window_size": 512,
            "moe_intermediate_size": 3072, "n_routed_experts": 256, "n_shared_experts": 2, "num_experts_per_tok": 6,
            "intermediate_size": 24576, "vocab_size": 201024, "max_position_embeddings": 131072}},
        975_340_270_146, kv_byte=(11 * 8 + 55 * 16) * 2 * 128 * 2, bound=1e-12,
    ),  # transformers' class
    "Qwen-7B": Published(
        {"model_type": "qwen", "hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32,
         "num_attention_heads": 32, "kv_channels": 128, "vocab_size": 151936, "max_position_embeddings": 32768,
         "seq_length": 8192, "no_bias": True, "tie_word_embeddings": False},
        7_721_324_544, kv_byte=32 * 2 * 4096 * 2, bound=1e-12,
    ),  # the checkpoint's own count; arXiv 2309.16609: 7 B
    "rwkv7-0.1B": _rwkv7(12, 768, 64, 64, 32, 128),
    "rwkv7-2.9B": _rwkv7(32, 2560, 96, 96, 64, 320),
}  # fmt: skip
