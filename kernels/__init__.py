"""The numerical core: pure functions over floats and 1-D arrays, compiled by numba.

Nothing here reads a file, a clock or a global setting, but for `cache`, which says where compiled code is kept.
"""
