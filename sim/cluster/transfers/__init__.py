"""Rules of KV transfer between pools, one file each: `HELP` and `left_byte(...)`.

`left_byte(kv_byte, num_layer, step_s, link_byte_per_s)` says how many bytes of a prompt's KV are still to be sent when
the step that computed the last of it ends: what the hand-over then moves over the links it shares with others.
"""
