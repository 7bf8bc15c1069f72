"""The load and the system that most benchmarks of serving share."""

from typing import Any

LOAD = "poisson:rate={rate},n={n},prompt=lognormal:mean=1064:max=3000,output=lognormal:mean=247:max=1000"
MODEL = {"model": "llama-2-7b", "system": "a100_sxm_80gb", "policy": "sarathi:max_token=512,max_seq=128"}
Row = dict[str, Any]
