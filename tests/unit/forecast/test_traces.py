"""Agreement traces say what real drafts are accepted for, and are read back as they were written."""

import json

import pytest
from builders import mapped_draft
from specbench.plugins.prompt_lookup import PromptLookup
from specbench.plugins.speculative import SpeculativeDecoding
from specbench.plugins.speculative_pipelined import SpeculativePipelined

from specbench.api import AutoregressiveDecoder, CloudModel, EdgeModel, Options, Request
from specbench.benchmark.preparation import prepare
from specbench.errors import SpecbenchError
from specbench.forecast.acceptance_trace import read_trace, write_trace
from specbench.forecast.replay import ANY, play, rounds
from specbench.forecast.trace_making import WIDTH, make_trace, readings
from specbench.forecast.traced_drafter import Text, texts_of
from specbench.profile import CloudSpec, Decoding, EdgeSpec, EngineSpec, Speculative, load_profile
from specbench.testing import answer, tiny_llama, tokens_of

DTYPE = "float64"  # wide passes and single steps agree to about 1e-15, so no tie can hide a bug
PROMPTS = [tuple(range(20, 50)), (7, 7, 9), tuple(range(90, 40, -3))]
DECODINGS = {
    "greedy": Options(Decoding(), Speculative()),
    "greedy with a penalty": Options(Decoding(repetition_penalty=1.3), Speculative()),
    "coupled": Options(Decoding(temperature=1.0, top_k=40), Speculative(verification="coupled")),
}


@pytest.fixture(scope="module", params=["eager", pytest.param("compiled", marks=pytest.mark.slow)])
def pair(request, tmp_path_factory):
    """A target, and the drafts that read its texts."""
    engine, folder = EngineSpec(kind=request.param), tmp_path_factory.mktemp("pairs")
    target = tiny_llama(folder / "target", seed=7)
    cloud = CloudModel(CloudSpec(model=str(target), device="cpu", dtype=DTYPE), engine=engine)
    drafts = {
        "first layer": EdgeModel(EdgeSpec(model=str(target), layers=1, dtype=DTYPE), engine=engine),
        "a few words": mapped_draft(folder / "mapped", cloud, size=30, dtype=DTYPE, engine=engine),
        "the target itself": EdgeModel(EdgeSpec(model=str(target), dtype=DTYPE), engine=engine),
    }
    return cloud, drafts


def with_length(options, draft_length):
    speculative = options.speculative.model_copy(update={"draft_length": draft_length})
    return Options(options.decoding, speculative)


def requests_of(cloud, options, prompt, stop_at, longest=70):
    """Several budgets, one of them with a stop token inside the text."""
    free = tokens_of(answer(AutoregressiveDecoder(cloud.target(options)), Request(prompt, 30, frozenset(), 5)))
    stops = frozenset([free[stop_at]])
    return [
        *(Request(prompt, budget, frozenset(), 5) for budget in (1, 2, 9, longest)),
        Request(prompt, 30, stops, 5),
    ]


@pytest.mark.parametrize("lengths", [(1, 4, 8), pytest.param((2, 3, 5, 6, 7), marks=pytest.mark.slow)])
@pytest.mark.parametrize("draft", ["first layer", "a few words", "the target itself"])
@pytest.mark.parametrize("decoding", DECODINGS)
def test_replayed_rounds_are_those_of_real_runs(pair, decoding, draft, lengths):
    cloud, drafts = pair
    options, edge = DECODINGS[decoding], drafts[draft]
    seen = set()
    for number, prompt in enumerate(PROMPTS):
        for request in requests_of(cloud, options, prompt, 11 + number, 25 if number else WIDTH + 6):
            bits = None
            for draft_length in lengths:
                decoder = SpeculativeDecoding().open(edge, cloud, with_length(options, draft_length))
                real = answer(decoder, request)
                if bits is None:
                    bits = readings(edge.engine, options, request, tokens_of(real))["agrees"]
                steps = rounds(Text.of(bits, request.max_new_tokens), draft_length)
                replayed = [(step.drafted, step.accepted, len(step.tokens)) for step in steps]
                assert replayed == [(part.drafted, part.accepted, len(part.tokens)) for part in real[1:]]
                seen.update(bits[1:])
    if draft != "a few words":
        assert seen == ({"1"} if draft == "the target itself" else {"0", "1"})


def test_a_pipelined_draft_is_accepted_for_what_the_trace_says(pair):
    cloud, drafts = pair
    options, edge = DECODINGS["greedy"], drafts["first layer"]
    for request in requests_of(cloud, options, PROMPTS[0], 12):
        for draft_length in (1, 3, 8):
            real = answer(SpeculativePipelined().open(edge, cloud, with_length(options, draft_length)), request)
            bits = readings(edge.engine, options, request, tokens_of(real))["agrees"]
            steps = rounds(Text.of(bits, request.max_new_tokens), draft_length)
            replayed = [(step.drafted, step.accepted, len(step.tokens)) for step in steps]
            assert replayed == [(part.drafted, part.accepted, len(part.tokens)) for part in real[1:]]


def test_a_drafter_without_a_model_is_replayed_as_it_runs(pair):
    cloud, drafts = pair
    options, method = DECODINGS["greedy"], PromptLookup()
    accepted = 0
    for request in requests_of(cloud, options, PROMPTS[0], 12):
        for draft_length in (1, 3, 8):
            real = answer(
                method.open(drafts["first layer"], cloud, with_length(options, draft_length)), request
            )
            text = Text(len(request.prompt_ids), request.max_new_tokens, (0,) * len(tokens_of(real)),
                        tokens=tuple(tokens_of(real)), prompt_ids=request.prompt_ids)  # fmt: skip
            replayed = [one.part for one in play(text, ANY, method, draft_length)]
            counts = [
                [(part.tokens, part.drafted, part.accepted) for part in parts] for parts in (real, replayed)
            ]
            assert counts[0] == counts[1]
            accepted += sum(part.accepted or 0 for part in real)
    assert accepted


def test_a_stop_token_inside_a_block_ends_the_replay_there():
    steps = rounds(Text.of("01111", budget=40), 8)
    assert [(step.drafted, step.accepted, len(step.tokens)) for step in steps] == [(8, 4, 4)]


def test_the_last_round_drafts_no_more_than_the_budget_lets_it_commit():
    steps = rounds(Text.of("0000000", budget=7), 4)
    assert [step.drafted for step in steps] == [4, 4, 3, 2, 1, 0]


def test_the_draft_reads_two_new_tokens_after_a_round_that_stood_whole():
    steps = play(Text.of("0110111", budget=7), ANY, SpeculativeDecoding(), 2)[1:]
    assert [(step.part.accepted, step.events[0].second) for step in steps] == [(2, 1), (2, 2)]


def prepared_on(path, *overrides):
    method = SpeculativeDecoding()
    return prepare(load_profile(str(path), overrides), [method]), method


def trace_of(path, *overrides):
    return make_trace(*prepared_on(path, *overrides))


@pytest.fixture(scope="module")
def tiny_trace(tmp_path_factory, models):
    folder = tmp_path_factory.mktemp("trace")
    path = folder / "p.yaml"
    rows = [{"question_id": 1, "category": "talk", "turns": ["hello there", "and now?"]}]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path.write_text(
        json.dumps(
            {
                "edge": {"model": str(models / "target"), "layers": 1},
                "cloud": {"model": str(models / "target"), "device": "cpu"},
                "engine": {"kind": "eager"},
                "workload": {"prompts": str(folder / "prompts.jsonl"), "max_new_tokens": WIDTH + 20},
            }
        )
    )
    return path, trace_of(path)


def test_a_trace_names_what_it_depends_on(tiny_trace):
    _, trace = tiny_trace
    assert trace.exact
    assert [(text.prompt_id, text.turn) for text in trace.texts] == [("1", 0), ("1", 1)]
    assert all(len(text.entropy) == len(text.agrees) == len(text.tokens) for text in trace.texts)
    assert all(0 <= value <= 1 for text in trace.texts for value in text.margin)
    assert all(value <= 0 for text in trace.texts for value in text.log_probability)
    assert set(trace.models) == set(trace.engines) == {"edge", "cloud"}
    assert len(trace.tokenizer_sha256) == len(trace.prompts_sha256) == 64
    assert [len(text.runs) for text in texts_of(trace)] == [len(text.tokens) for text in trace.texts]


def test_a_trace_asks_what_a_run_asks(tiny_trace, specbench, tmp_path):
    path, trace = tiny_trace
    from specbench.results.store import RunStore

    assert specbench("run", "speculative", "--profile", path).code == 0
    store = RunStore(tmp_path / "runs")
    for record in store.read(store.find(None)).generations:
        text = next(each for each in trace.texts if each.turn == record.turn)
        assert (text.prompt_sha256, text.prompt_tokens) == (record.prompt_sha256, record.prompt_tokens)
        assert text.tokens == record.tokens
    assert store.read(store.find(None)).manifest.prompts_sha256 == trace.prompts_sha256


def test_a_trace_is_read_back_as_it_was_written(tiny_trace, tmp_path):
    _, trace = tiny_trace
    write_trace(tmp_path / "t.json", trace)
    assert read_trace(tmp_path / "t.json") == trace


@pytest.mark.parametrize("rule", ["rejection", "block", "one_hot", "rank", "typical"])
def test_rules_that_draw_or_lose_are_traced_by_their_chances_and_marked_approximate(tiny_trace, rule):
    path, _ = tiny_trace
    trace = trace_of(path, f"speculative.verification={rule}", "decoding.temperature=0.8", "workload.repeats=2")
    assert not trace.exact
    assert {text.repeat for text in trace.texts} == {0, 1}
    for text in trace.texts:
        assert all(0 <= chance <= 1.0001 for chance in text.chances)
        assert all(bit == "0" for bit, chance in zip(text.agrees, text.chances, strict=True) if chance == 0)
        assert all(bit == "1" for bit, chance in zip(text.agrees, text.chances, strict=True) if chance >= 1)


def test_chances_at_temperature_zero_are_the_agreement(tiny_trace):
    path, trace = tiny_trace
    prepared, _ = prepared_on(path, "speculative.verification=rejection")
    options = Options.of(prepared.profile)
    text = trace.texts[0]
    request = prepared.request(prepared.prompts[0], 0, 0, ())
    found = readings(prepared.edge.engine, options, request, text.tokens, prepared.cloud.engine)
    assert found["chances"] == tuple(float(bit) for bit in text.agrees)
    assert found["agrees"] == text.agrees


BROKEN = {
    "nothing": lambda row: None,
    "no trace": lambda row: {"name": "x"},
    "version": lambda row: {**row, "schema_version": 99},
    "a field of another type": lambda row: {**row, "exact": "yes"},
    "a missing field": lambda row: {key: value for key, value in row.items() if key != "texts"},
    "no texts": lambda row: {**row, "texts": []},
    "columns of other lengths": lambda row: {**row, "texts": [{**row["texts"][0], "agrees": "01"}]},
    "letters for bits": lambda row: {
        **row, "texts": [{**row["texts"][0], "agrees": "x" * len(row["texts"][0]["agrees"])}]
    },
}  # fmt: skip


@pytest.mark.parametrize("damage", BROKEN)
def test_a_bad_trace_gets_one_clear_error(tiny_trace, tmp_path, specbench, damage):
    path = tmp_path / "t.json"
    write_trace(path, tiny_trace[1])
    path.write_text(json.dumps(BROKEN[damage](json.loads(path.read_text()))))
    with pytest.raises(SpecbenchError, match=r"t\.json"):
        read_trace(path)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b'"agrees"'])
def test_what_is_no_json_gets_one_clear_error(tmp_path, data):
    (tmp_path / "t.json").write_bytes(data)
    with pytest.raises(SpecbenchError, match=r"t\.json"):
        read_trace(tmp_path / "t.json")
    with pytest.raises(SpecbenchError, match="cannot be read"):
        read_trace(tmp_path / "absent.json")


def test_the_command_writes_a_trace_and_says_what_is_in_it(tiny_trace, specbench, tmp_path):
    path, trace = tiny_trace
    out = tmp_path / "t.json"
    done = specbench("trace", "--profile", path, "--out", out, "--json")
    assert done.code == 0, done.err
    assert done.json["exact"] is True
    assert done.json["tokens"] == sum(len(text.tokens) for text in trace.texts)
    assert [text.agrees for text in read_trace(out).texts] == [text.agrees for text in trace.texts]
    gated = specbench(
        "trace", "--profile", path, "--out", out, "--set", "speculative.gate={measure: margin, threshold: 0.5}"
    )
    assert gated.code == 2
    assert "gate" in gated.err
    assert specbench("trace", "--profile", path, "--out", tmp_path / "no" / "t.json").code == 5
