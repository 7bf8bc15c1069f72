"""Tokens of texts, where a file holds texts and no counts: nobody tokenizes here, so a user says how many characters a
token has (English prose on common tokenizers: about 4)."""

import math
import pathlib
from collections.abc import Mapping
from typing import Any

from kernels.errors import InputError
from workloads.parameters import Parameter
from workloads.requests import MAX_TOKEN

CHAR_PER_TOKEN = {"char_per_token": Parameter("characters a token of its texts (needed)", low=0.1, high=100.0)}


def tokens_of(path: pathlib.Path, text: str, options: Mapping[str, Any]) -> int:
    """Tokens of a text, one at least where it has a character."""
    rate = options["char_per_token"]
    if rate is None:
        raise InputError("the file holds texts, not counts of tokens: give char_per_token=", file=path,
                         field="char_per_token", value=None, allowed="0.1 to 100")  # fmt: skip
    return min(math.ceil(len(text) / rate), MAX_TOKEN)
