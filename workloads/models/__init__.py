"""What a model is: a Hugging Face `config.json` read into one small frozen description.

>>> from workloads import models
>>> llama = models.load("llama-2-7b")
>>> llama.num_layer, llama.hidden, llama.block[0].attention.head_dim
(32, 4096, 128)
"""

from workloads.models import vision
from workloads.models.catalogue import load, names, read_config
from workloads.models.spec import Attention, Block, FeedForward, ModelSpec
from workloads.models.tensors import Tensor, num_active_param, num_mtp_param, num_param, tensors

__all__ = [
    "Attention",
    "Block",
    "FeedForward",
    "ModelSpec",
    "Tensor",
    "load",
    "names",
    "num_active_param",
    "num_mtp_param",
    "num_param",
    "read_config",
    "tensors",
    "vision",
]
