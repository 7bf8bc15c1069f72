"""A job of torchtitan by its TOML (releases of 2024 and 2025): FSDP2, its groups, compiled operators, activation
checkpointing by operator. What the file leaves out is torchtitan's own default."""

from typing import Any

from workloads.jobs.job import Given, Job

MODELS = {  # (name, flavor) in the catalogue
    ("llama2", "7B"): "llama-2-7b", ("llama2", "13B"): "llama-2-13b", ("llama2", "70B"): "llama-2-70b",
    ("llama3", "8B"): "llama-3.1-8b", ("llama3", "70B"): "llama-3.1-70b", ("llama3", "405B"): "llama-3.1-405b",
    ("deepseek_v3", "671B"): "deepseek-v3", ("deepseek_v3", "16B"): "deepseek-v2-lite",
    ("qwen3", "8B"): "qwen3-8b", ("qwen3", "14B"): "qwen3-14b", ("qwen3", "32B"): "qwen3-32b",
}  # fmt: skip
SCHEDULES = {"1F1B": "1f1b", "Interleaved1F1B": "interleaved-1f1b", "GPipe": "gpipe", "LoopedBFS": "breadth-first",
             "ZBVZeroBubble": "zb-v"}  # fmt: skip
NARROW = {"float8": "fp8", "quantize.linear.float8": "fp8", "mx": "mxfp8", "quantize.linear.mx": "mxfp8"}
# selective checkpointing by operator saves every other product: here the second of a layer (keys), the fourth (the
# result's projection) and the sixth (one of two up projections), and all that is no product
EVERY_OTHER = (
    ("key", "recompute", 1.0), ("input of the second norm", "recompute", 1.0),
    ("results of the up projections", "recompute", 0.5),
)  # fmt: skip
_NAMES = """
activation_checkpoint.early_stop activation_checkpoint.per_op_sac_force_recompute_mm_shapes_by_fqns compile.components
experimental.custom_args_module experimental.custom_import model.hf_assets_path model.norm_type
model.print_after_conversion model.tokenizer_flavor model.tokenizer_path optimizer.beta1 optimizer.beta2 optimizer.eps
optimizer.fused optimizer.implementation optimizer.lr optimizer.weight_decay parallelism.enable_compiled_autograd
training.data_parallel_type training.dataset training.dataset_path training.debug_moe_force_load_balance
training.dtype training.enable_loss_parallel training.gc_debug training.gc_freq training.max_norm training.seed
training.steps training.warmup_steps
"""
NEUTRAL = frozenset(_NAMES.split())
PREFIXES = ("job.", "profiling.", "metrics.", "checkpoint.", "comm.", "lr_scheduler.", "memory_estimation.",
            "validation.", "fault_tolerance.", "debug.", "logging.")  # fmt: skip
REFUSED = (
    "optimizer.early_step_in_backward", "training.deterministic", "parallelism.pipeline_parallel_schedule_csv",
    "parallelism.pipeline_parallel_split_points", "parallelism.module_fqns_per_model_part",
    "experimental.pipeline_parallel_split_points",
)  # fmt: skip


def read(given: Given, num_device: int) -> Job:
    """The job on `num_device` devices (torchtitan's file does not say how many)."""
    given.refuse_any(REFUSED)
    if not num_device:
        given.refuse("parallelism.data_parallel_shard_degree", "of how many devices? Give --gpus")
    plan: dict[str, Any] = {}
    for field, name in (("tp", "tensor"), ("pp", "pipeline"), ("cp", "context"), ("ep", "expert")):
        plan[field] = _of(given, f"{name}_parallel_degree", 1, field)
    etp = _of(given, "expert_tensor_parallel_degree", 1, "etp")
    if plan["ep"] > 1:
        plan["etp"] = etp
    inner = plan["tp"] * plan["pp"] * plan["cp"]
    copies = _of(given, "data_parallel_replicate_degree", 1, "dp")
    shards = _of(given, "data_parallel_shard_degree", -1, "dp")
    if num_device % (inner * copies) or shards not in (-1, num_device // inner // copies):
        given.refuse("parallelism.data_parallel_shard_degree", f"groups do not make {num_device} devices")
    plan["dp"] = num_device // inner
    shards = plan["dp"] * plan["cp"] // copies
    if copies > 1 and shards > 1:
        given.refuse("parallelism.data_parallel_replicate_degree", "shards in replicas (HSDP) are not modelled")
    plan["zero"] = 3 if shards > 1 else 0
    _batch(given, plan)
    _checkpointing(given, plan)
    compiled = given.flag("training.compile", "fused_loss") or given.flag("compile.enable", "fused_loss")
    plan["fused_loss"] = compiled
    plan["attention"] = "flash2"  # torch's scaled_dot_product_attention
    if given.flag("training.enable_cpu_offload", "optimizer_offload"):
        plan |= {"optimizer_offload": 1.0, "host_update": True, "weight_offload": 1.0}
    plan["optimizer"] = given.choice("optimizer.name", "AdamW", {"AdamW": "adam", "Adam": "adam"}, "optimizer")
    plan["grad_byte"] = 4.0  # shards of weights and gradients in 32 bits, and two moments
    plan["optimizer_byte"] = 2.0 + 8.0
    given.choice("training.mixed_precision_param", "bfloat16", {"bfloat16": "bf16"}, "format")
    given.choice("training.mixed_precision_reduce", "float32", {"float32": 4.0}, "grad_byte")
    asynchronous = _of_flag(given, "enable_async_tensor_parallel")
    plan["tp_overlap"] = None if asynchronous else 0.0
    plan["sequence_parallel"] = plan["tp"] > 1
    plan["gather_logits"] = _of_flag(given, "disable_loss_parallel") and plan["tp"] > 1
    if _of_text(given, "fsdp_reshard_after_forward", "default") == "never" or (plan["pp"] > 1 and plan["zero"] == 3):
        given.refuse("parallelism.fsdp_reshard_after_forward", "weights that stay gathered are not modelled here")
    model = (str(given.take("model.name", "", "model")), str(given.take("model.flavor", "", "model")))
    if model not in MODELS:
        given.refuse("model.flavor", f"{model[0]} {model[1]} is not in the catalogue: give --model and set it aside")
    precision = _precision(given)
    narrow = any(given.flag(f"{section}.enable_fsdp_float8_all_gather", "gather_byte") for section in NARROW)
    if narrow and precision == "fp8" and plan["zero"] == 3:
        plan["gather_byte"] = 1.0
    neutral = given.finish(NEUTRAL, PREFIXES)
    return Job("torchtitan", {key: value for key, value in plan.items() if value is not None}, None, MODELS[model],
               precision, num_device, {}, tuple(given.understood), neutral, given.set_aside)  # fmt: skip


def _section(given: Given, name: str) -> str:
    """The section that a release has a setting of the groups in."""
    for section in ("parallelism", "experimental", "training"):
        if given.has(f"{section}.{name}"):
            return f"{section}.{name}"
    return f"parallelism.{name}"


def _of(given: Given, name: str, default: int, meaning: str) -> int:
    return given.whole(_section(given, name), default, meaning)


def _of_flag(given: Given, name: str) -> bool:
    return given.flag(_section(given, name), name)


def _of_text(given: Given, name: str, default: str) -> str:
    return str(given.take(_section(given, name), default, name))


def _batch(given: Given, plan: dict[str, Any]) -> None:
    local = given.whole("training.local_batch_size", 0, "micro_batch") or given.whole("training.batch_size", 8, "batch")
    whole = given.whole("training.global_batch_size", -1, "batch")
    plan["seq"] = given.whole("training.seq_len", 2048, "seq")
    plan["batch"] = whole if whole > 0 else local * plan["dp"]
    plan["micro_batch"] = local
    if plan["pp"] > 1:
        plan["micro_batch"] = _of(given, "pipeline_parallel_microbatch_size", 1, "micro_batch")
        name = _section(given, "pipeline_parallel_schedule")
        plan["schedule"] = given.choice(name, "1F1B", SCHEDULES, "schedule")
        looped = plan["schedule"] in ("interleaved-1f1b", "breadth-first")
        plan["interleave"] = 2 if looped else 1  # stages a rank, unless layers of a stage are given
        layers = _of(given, "pipeline_parallel_layers_per_stage", 0, "interleave")
        if layers:
            given.refuse(_section(given, "pipeline_parallel_layers_per_stage"), "stages by layers are not read")
    for end in ("first", "last"):
        name = _section(given, f"pipeline_parallel_{end}_stage_less_layers")
        if given.has(name):
            given.refuse(name)


def _checkpointing(given: Given, plan: dict[str, Any]) -> None:
    mode = given.choice("activation_checkpoint.mode", "selective", {"none": "none", "full": "full", "selective": "op"},
                        "recompute")  # fmt: skip
    option = str(given.take("activation_checkpoint.selective_ac_option", "2", "recompute"))
    plan["recompute"] = "none" if mode == "op" else mode
    plan["fused_norm"] = True
    if mode == "op":
        if option != "op":
            given.refuse(
                "activation_checkpoint.selective_ac_option", "checkpoints of whole layers in turn are not read"
            )
        plan["recompute"], plan["policy"] = "norm+activation", EVERY_OTHER


def _precision(given: Given) -> str:
    """The products' format: narrow where a converter is asked for."""
    wanted = [str(name) for name in given.take("model.converters", [], "format")]
    if not wanted:  # their sections say how, where they are asked for
        given.left -= {name for name in given.left if name.rpartition(".")[0] in NARROW}
    for name, meaning in (("precompute_float8_dynamic_scale_for_fsdp", "nothing"), ("recipe_name", "format"),
                          ("filter_fqns", "the head stays in 16 bits"),
                          ("force_recompute_fp8_weight_in_bwd", "nothing"),
                          ("emulate", "nothing")):  # fmt: skip
        for section in NARROW:
            given.take(f"{section}.{name}", meaning=meaning)
    for name in wanted:
        if name not in NARROW:
            given.refuse("model.converters")
    return NARROW[wanted[0]] if wanted else "bf16"
