"""Names that measured files call models, number formats and machines by, and ours."""

import functools
import re

QUALIFIER = re.compile(
    r"hf|instruct|thinking|coder|chat|base|it|vl|meta|fp8|fp4|nvfp4|mxfp4|bf16|awq|gptq|int[48]|dynamic|\d{4}|\d+[ke]|v0\.\d+"
)
NOT_TOLD_APART = ("nvidia", "amd", "instinct", "tesla", "gpu", "hbm2e", "hbm3", "hbm3e")
SOCKET = re.compile(r"sxm\d")
ALIAS = {
    "bloom": "bloom-176b", "llama-4-maverick-17b": "llama-4-maverick", "llama-4-scout-17b": "llama-4-scout",
    "deepseek-r1": "deepseek-v3", "deepseek-v3.1": "deepseek-v3", "llama-3.3-70b": "llama-3.1-70b",
    "deepseek-r1-distill-llama-70b": "llama-3.1-70b", "deepseek-r1-distill-llama-8b": "llama-3.1-8b",
    "qwen3-480b-a35b": "qwen3-coder-480b-a35b", "qwen2-7b": "qwen2.5-7b", "llama-7b": "llama-2-7b",
    "qwen3-235b": "qwen3-235b-a22b", "moe-mixtral8x7b": "mixtral-8x7b", "moe-mixtral8x22b": "mixtral-8x22b",
}  # fmt: skip


def known_model(name: str) -> str:
    """Our name of a model that a file calls by its published one; the name itself where we know none.

    What says how a checkpoint was tuned or stored (`-Instruct`, `-hf`, `-FP8`, a date) does not change what is
    computed; case, dashes and underscores do not matter.

    >>> known_model("meta-llama/Llama-2-7b-hf"), known_model("mistralai/Mixtral-8x7B-Instruct-v0.1")
    ('llama-2-7b', 'mixtral-8x7b')
    >>> known_model("llama2-70b"), known_model("Qwen/Qwen3-30B-A3B-Instruct-2507"), known_model("acme/unheard-of-9b")
    ('llama-2-70b', 'qwen3-30b-a3b', 'acme/unheard-of-9b')
    """
    from workloads import models

    table = {known.replace("-", ""): known for known in models.names()}
    table |= {alias.replace("-", ""): known for alias, known in ALIAS.items()}
    words = re.split(r"[-_ ]", name.rsplit("/", maxsplit=1)[-1].lower())
    key = "".join(word for word in words if not QUALIFIER.fullmatch(word))
    return name if name in models.names() else table.get(key, name)


STORED = {  # words of a checkpoint's name that say how its weights are stored
    "fp8": "fp8", "nvfp4": "nvfp4", "fp4": "nvfp4", "mxfp4": "mxfp4_a16", "awq": "w4a16", "gptq": "w4a16",
    "int4": "w4a16", "w4a16": "w4a16", "int8": "int8", "w8a8": "int8", "bf16": "bf16",
}  # fmt: skip
FORMAT_ALIAS = {
    "float8_e4m3": "fp8", "fp8_e4m3": "fp8", "fp8_e5m2": "fp8", "w4a16_mxfp4": "mxfp4_a16", "fp4": "nvfp4",
    "awq": "w4a16", "gptq": "w4a16",
}  # fmt: skip
UNSAID = ("", "nan", "none", "auto")  # the model's own
BLOCK_SCALED = ("deepseek-v3", "qwen3")  # their FP8 checkpoints have a scale a block (`quantization_config`)


def known_format(text: str, model: str) -> str:
    """Our name of a number format of weights; where a file leaves it open, that of the model as it is published.

    >>> known_format("auto", "Qwen/Qwen3-30B-A3B-FP8"), known_format("fp8", "deepseek-ai/DeepSeek-R1")
    ('fp8_block', 'fp8_block')
    >>> known_format("", "openai/gpt-oss-120b"), known_format("FP8", "Qwen/Qwen3-8B"), known_format("none", "opt-13b")
    ('mxfp4_a16', 'fp8', 'bf16')
    """
    ours, said = known_model(model), text.strip().lower()
    if said not in UNSAID:
        alias = FORMAT_ALIAS.get(said, said)
        return "fp8_block" if alias == "fp8" and ours.startswith("deepseek-v3") else alias
    words = re.split(r"[-_ ]", model.rsplit("/", maxsplit=1)[-1].lower())
    usual = "fp8" if ours.startswith("deepseek-v3") else "mxfp4" if ours.startswith("gpt-oss") else "bf16"
    stored = STORED[next((word for word in words if word in STORED), usual)]
    return "fp8_block" if stored == "fp8" and ours.startswith(BLOCK_SCALED) else stored


@functools.cache
def known_system(name: str) -> str:
    """The catalogue's name of a machine that a file calls by its published one; the name itself where we know none.

    Maker and kind of memory do not tell machines apart, nor does the generation of a socket; a name without a form
    factor is the SXM one where the catalogue has it. A path stays.

    >>> known_system("H100-SXM"), known_system("NVIDIA H100 80GB HBM3"), known_system("my/Own.toml")
    ('h100_sxm', 'h100_80gb', 'my/Own.toml')
    >>> known_system("NVIDIA A100-SXM4-80GB"), known_system("nvidia_h200"), known_system("H100"), known_system("v9")
    ('a100_sxm_80gb', 'h200', 'h100_sxm', 'v9')
    """
    from hw_models import catalog
    from kernels.errors import InputError

    if name.endswith(".toml"):
        return name
    words = [SOCKET.sub("sxm", word) for word in re.split(r"[-_ ]+", name.lower()) if word not in NOT_TOLD_APART]
    plain = "_".join(re.split(r"[-_ ]+", name.lower()))
    for found in (plain, "_".join(words), "_".join([*words, "sxm"])):
        try:
            catalog.system(found)
        except InputError:
            continue
        return found
    return plain
