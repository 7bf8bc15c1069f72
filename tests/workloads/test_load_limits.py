"""Loads at the edge: numbers beyond their type, keys that do nothing without another, loads without a request."""

import pathlib
from typing import Any

import pytest

from kernels.errors import InputError, NothingServedError
from workloads.load import load_requests

BODY = "prompt=5,output=5"
VARIED = "prompt=uniform:min=1:max=9,output=uniform:min=1:max=9"


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (f"poisson:rate=nan,n=5,{BODY}", "rate = 'nan': out of range; allowed: 1e-06 to 1000000"),
        (f"poisson:rate=inf,n=5,{BODY}", "rate = 'inf': out of range"),
        (f"poisson:rate=1,n=1e300,{BODY}", "n = '1e300': out of range; allowed: 1 to 20000000"),
        (f"poisson:rate=1,n={'9' * 10_000},{BODY}", "n = '99999999"),
        ({"source": "batch", "n": 10**400, "prompt": 5, "output": 5}, "n = 10000000"),
        ({"source": "batch", "n": 10**10_000, "prompt": 5, "output": 5}, "n = a whole number of 33,220 bits: out of"),
        ({"source": "batch", "n": 2, "prompt": 10**10_000, "output": 5}, "prompt.token = a whole number of 33,220 bi"),
        ({"source": "staged", "stages": [[10**400, 1]], "prompt": 5, "output": 5}, "stages rate = 10000"),
        ({"source": "batch", "n": True, "prompt": 5, "output": 5}, "n = True: out of range"),
        ("batch:n=2,prompt=1e300,output=5", "prompt.token = '1e300': out of range; allowed: 1 to 16777216"),
        ("batch:n=2,prompt=lognormal:mean=5:sigma=inf,output=5", "prompt.sigma = 'inf': out of range; allowed: 0 to 5"),
        ("batch:n=2,prompt=lognormal:mean=nan,output=5", "prompt.mean = 'nan': not a number"),
        (f"constant:rate=1e-6,n=100,{BODY}", "arrival_s = 99000000.0: the last arrival; allowed: 0 to 9e+06"),
        (f"staged:stages=1e6:9e6,{BODY}", "stages = 9000000000000.0: too many requests; allowed: up to 20000000"),
        ("x" * 300, "requests = 'xxxx"),
        ("a\0b", "requests = 'a\\x00b'"),
    ],
)
def test_numbers_beyond_their_type_name_the_field_and_its_range(load: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_requests(load)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (f"poisson:rate=1,n=5,{BODY},think_s=2", "think_s = 2.0: has no effect without turns="),
        (f"poisson:rate=1,n=5,{BODY},turns=3,think_cv=2", "think_cv = 2.0: has no effect without think_s="),
        (f"closed_loop:users=1,n=5,{BODY},think_cv=2", "think_cv = 2.0: has no effect without think_s="),
        (f"batch:n=2,{BODY},corr=0.5", "corr = 0.5: has no effect without a prompt and an output that vary"),
        (f"batch:n=2,{BODY},unit_token=32", "unit_token = 32: has no effect without num_system_prompt= or turns="),
        (f"batch:n=2,{BODY},num_system_prompt=3", "num_system_prompt = 3: has no effect without system_prompt_len="),
    ],
)
def test_a_key_that_needs_another_is_refused_without_it(load: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_requests(load)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "load",
    [
        f"poisson:rate=1,n=5,{BODY},think_s=0,think_cv=0,corr=0,unit_token=16",
        f"poisson:rate=1,n=5,{BODY},turns=3,think_s=1,think_cv=2,unit_token=32",
        f"batch:n=2,{VARIED},corr=0.5,num_system_prompt=2,num_user_per_system_prompt=2",
    ],
)
def test_keys_at_their_default_or_with_what_they_need_are_taken(load: str) -> None:
    assert len(load_requests(load)) > 0


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plain", "arrival_s,prompt_token,output_token\n"),
        ("azure", "TIMESTAMP,ContextTokens,GeneratedTokens\n"),
        ("azure", ""),
        ("mooncake", "\n"),
        ("vllm_bench", '{"input_lens": [], "output_lens": []}'),
        ("burstgpt", "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,0,472,x\n"),
    ],
)
def test_a_trace_without_a_request_holds_nothing_to_serve(tmp_path: pathlib.Path, name: str, content: str) -> None:
    path = tmp_path / "trace"
    path.write_text(content)
    with pytest.raises(NothingServedError) as caught:
        load_requests(f"{name}:{path}")
    assert caught.value.exit_code == 3


def test_a_time_in_which_nothing_arrives_holds_nothing_to_serve() -> None:
    with pytest.raises(NothingServedError, match="no request arrives in that time"):
        load_requests(f"poisson:rate=1,duration_s=1e-6,{BODY}")
