"""All of a prompt's KV is sent once its prefill is over (DistServe, OSDI 2024; Splitwise's serialized transfer)."""

HELP = "all KV once the prefill is over"


def left_byte(kv_byte: float, num_layer: int, step_s: float, link_byte_per_s: float) -> float:
    """All of it.

    >>> left_byte(8e9, 80, 0.1, 1e11)
    8000000000.0
    """
    return kv_byte
