"""Every kind of hostile input, by name."""

from hypothesis import strategies as st

from tests.properties import cases
from tests.properties.cases_code import users_code
from tests.properties.cases_front import front
from tests.properties.cases_measured import measured, parquet_trace
from tests.properties.cases_search import search
from tests.properties.driver import Case

KINDS: dict[str, tuple[st.SearchStrategy[Case], float]] = {
    "simulate": (cases.simulate(), 0.16), "request_trace": (cases.request_trace(), 0.15),
    "parquet": (parquet_trace(), 0.03), "machine": (cases.machine(), 0.10), "model": (cases.model(), 0.10),
    "execution_trace": (cases.execution_trace(), 0.12), "schedule": (cases.schedule(), 0.11),
    "training": (cases.training(), 0.07), "users_code": (users_code(), 0.04), "measured": (measured(), 0.04),
    "search": (search(), 0.04), "front": (front(), 0.04),
}  # fmt: skip
"""A strategy a kind of input, and its share of all cases."""
