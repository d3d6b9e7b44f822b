"""What rounding explains covers every honest difference between passes, and nothing that a bug makes."""

import pytest
from builders import broken_steps, tiny_mistral

from specbench.api import CloudModel, Request
from specbench.profile import CloudSpec, EngineSpec
from specbench.speculation.rounding import largest_move
from specbench.speculation.ties import by_rounds, by_single_steps
from specbench.testing import tiny_llama

DTYPES = ["float64", "float32", "bfloat16", "float16"]
MODELS = {
    "two layers": {},
    "ten layers": {"num_hidden_layers": 10, "initializer_range": 0.1},
    "wide": {"hidden_size": 256, "intermediate_size": 512},
    "small weights": {"initializer_range": 0.02},
}


def differences(cloud, start):
    """Of one position behind a text: how far single steps are from other passes, and what rounding explains."""
    engine = cloud.engine
    prompt = tuple((7 * index + start) % 90 + 4 for index in range(14))
    session, text = engine.session(128), []
    row = session.prefill(prompt)[-1]
    while len(text) < 12:
        text.append(int(row.argmax()))
        row = session.extend(text[-1:])[-1]
    request = Request(prompt, 13, frozenset())
    steps = by_single_steps(engine, request, text)
    read = [tuple(text[at : at + 3]) for at in range(1, 12, 3)]
    drafts = [(None, (text[0],), False), *((4, tokens, False) for tokens in [*read, (5, 5, 5)])]
    others = [
        by_rounds(engine, request, text, drafts)[0],
        by_rounds(engine, request, text, [(None, (token,), False) for token in text])[0],
        engine.recompute([*prompt, *text], 1)[-1],
    ]
    noise = max(float((steps.double() - other.double()).abs().max()) for other in others)
    exact = others[-1].double()
    return noise, largest_move(engine, [*prompt, *text], exact, lambda row: row), float(exact.abs().max())


# Every dtype on one model, and every model in one dtype; the others at length.
CASES = [
    pytest.param(name, dtype, marks=() if name == "two layers" or dtype == "float32" else pytest.mark.slow)
    for name in (*MODELS, "a sliding window")
    for dtype in DTYPES
]


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_every_honest_difference_is_within_what_rounding_explains(tmp_path, name, dtype):
    window = name == "a sliding window"
    folder = tiny_mistral(tmp_path, 8) if window else tiny_llama(tmp_path, seed=3, **MODELS[name])
    cloud = CloudModel(CloudSpec(model=str(folder), device="cpu", dtype=dtype))
    for start in range(6):
        noise, plausible, scale = differences(cloud, start)
        assert noise <= plausible
        assert plausible < 1e-2 * scale or dtype in ("bfloat16", "float16"), "and it is no licence"


@pytest.mark.slow
def test_so_are_those_of_compiled_passes(tmp_path):
    folder = tiny_llama(tmp_path, seed=3)
    engine = EngineSpec(kind="compiled")
    cloud = CloudModel(CloudSpec(model=str(folder), device="cpu", dtype="float32"), engine=engine)
    assert cloud.engine.kind == "compiled"
    for start in range(6):
        noise, plausible, _ = differences(cloud, start)
        assert noise <= plausible


@pytest.mark.slow
@pytest.mark.real_pair
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_so_are_those_of_a_trained_model(dtype):
    cloud = CloudModel(CloudSpec(model="embedded:smollm2-135m-instruct", device="cpu", dtype=dtype))
    noise, plausible, _ = differences(cloud, 3)
    assert 0 < noise <= plausible


def test_what_a_broken_pass_does_is_far_beyond_it(tmp_path):
    spec = CloudSpec(model=str(broken_steps(tmp_path)), device="cpu", dtype="float32", trust_remote_code=True)
    noise, plausible, _ = differences(CloudModel(spec), 3)
    assert noise > 1000 * plausible
