"""Names that measured files call models and machines by, and ours."""

import functools
import re

QUALIFIER = re.compile(
    r"hf|instruct|chat|base|it|meta|fp8|fp4|nvfp4|mxfp4|bf16|awq|gptq|int[48]|dynamic|\d{4}|\d+[ke]|v0\.\d+"
)
NOT_TOLD_APART = ("nvidia", "amd", "instinct", "tesla", "gpu", "hbm2e", "hbm3", "hbm3e")
SOCKET = re.compile(r"sxm\d")
ALIAS = {
    "bloom": "bloom-176b", "llama-4-maverick-17b": "llama-4-maverick", "llama-4-scout-17b": "llama-4-scout",
    "deepseek-r1": "deepseek-v3", "deepseek-v3.1": "deepseek-v3", "llama-3.3-70b": "llama-3.1-70b",
    "deepseek-r1-distill-llama-70b": "llama-3.1-70b", "deepseek-r1-distill-llama-8b": "llama-3.1-8b",
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
