"""A mismatch with the control is a tie where that is proven, and a bug everywhere else."""

from dataclasses import replace

import pytest
from builders import LIAR, broken_steps, generation
from stores import stored

from specbench.api import AutoregressiveDecoder, CloudModel, Options, Request
from specbench.benchmark.identity import BUG, Prover, divergences, passes_of
from specbench.profile import CloudSpec, Decoding, Speculative
from specbench.results.records import Round
from specbench.speculation.ties import by_rounds, by_single_steps, compared
from specbench.testing import answer, tiny_llama, tokens_of


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """A target whose tokens come in pairs with all but equal output weights: every choice is nearly a tie."""
    import torch
    from transformers import LlamaForCausalLM

    folder = tiny_llama(tmp_path_factory.mktemp("twins") / "target", seed=2, tie_word_embeddings=False)
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        rows = model.lm_head.weight
        for token in range(4, 94, 2):
            hair = 1e-7 * rows[token].abs().max() * torch.randn(rows[token].shape, generator=generator)
            rows[token + 1] = rows[token] + hair
    model.save_pretrained(folder)
    return folder


def run(specbench, profile, tmp_path, *arguments, **parts):
    done = specbench("run", "speculative", "--profile", profile(**parts), *arguments)
    return done, stored(tmp_path)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_near_ties_flip_in_float32_with_proof_and_never_in_float64(specbench, profile, tmp_path, twins, dtype):
    pair = {"model": str(twins), "dtype": dtype}
    done, stored = run(
        specbench, profile, tmp_path, edge=pair, cloud=pair, workload={"limit": None, "max_new_tokens": 40}
    )
    assert done.code == 0, done.err
    found = stored.manifest.divergences
    assert bool(found) == (dtype == "float32")
    for divergence in found:
        assert divergence.verdict == "tie"
        assert divergence.margin <= 2 * divergence.noise
        assert divergence.noise < 1e-4
        assert abs(divergence.tokens[0] - divergence.tokens[1]) == 1, "the two are twins"
    assert "near-tie" in done.out or not found


def test_a_tie_is_judged_at_the_width_by_which_the_method_decided(specbench, profile, tmp_path, twins):
    pair = {"model": str(twins)}
    _, stored = run(
        specbench, profile, tmp_path, edge=pair, cloud=pair, workload={"limit": None, "max_new_tokens": 40}
    )
    assert stored.manifest.divergences
    for found in stored.manifest.divergences:
        (record,) = [
            r
            for r in stored.generations
            if r.method == found.method and r.key == (found.prompt_id, found.turn, 0)
        ]
        ends, end = [], 0
        for part in record.rounds:
            end += len(part.tokens)
            ends.append(end)
        deciding = next(part for part, end in zip(record.rounds, ends, strict=True) if found.position < end)
        assert found.width == deciding.drafted + 1


@pytest.mark.parametrize("drafted", [None, 0, 4])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_wrong_token_is_a_bug_and_the_run_exits_9_with_its_results(
    specbench, profile, tmp_path, drafted, dtype
):
    plugin = tmp_path / "liar.py"
    plugin.write_text(LIAR.replace("{drafted}", str(drafted)))
    pair = {"dtype": dtype}
    path = profile(edge=pair, cloud=pair, workload={"limit": 1, "seed": 3})
    done = specbench("run", "liar", "--profile", path, "--plugin", plugin)
    assert done.code == 9, done.err
    said = " ".join(done.out.split())
    assert "bug: liar departs from the control on prompt 1, turn 1, at token 3" in said
    kept = stored(tmp_path)
    assert kept.manifest.status == "finished"
    assert len(kept.generations) == 4
    (found,) = kept.manifest.divergences
    assert (found.verdict, found.position) == ("bug", 3)
    assert found.margin > 2 * found.noise
    assert found.top2_margin > 0


@pytest.mark.parametrize("placement", ["in_process", "process"])
def test_a_model_whose_single_steps_are_wrong_has_no_ties_and_its_control_is_a_bug(
    specbench, profile, tmp_path, placement
):
    """Steps differ from passes by whole logits, and no rounding explains that."""
    broken = {"model": str(broken_steps(tmp_path / "broken")), "trust_remote_code": True}
    path = profile(cloud={**broken, "placement": placement}, workload={"max_new_tokens": 24})
    done = specbench("run", "speculative", "--profile", path)
    assert done.code == 9, done.err
    manifest = stored(tmp_path).manifest
    assert {found.verdict for found in manifest.divergences} == {"bug"}
    mine = [found for found in manifest.divergences if found.method == "speculative"]
    assert mine
    assert all(found.noise > 1 > 1e-3 > found.plausible for found in mine if found.plausible is not None)
    own = [found for found in manifest.divergences if found.method == "cloud_optimized_baseline"]
    assert 0 < len(own) <= manifest.recomputation.texts
    said = " ".join(done.out.split())
    assert "the control is not what the model says without a cache, on prompt" in said
    assert "produced wrong text." in said


def test_every_run_says_how_many_tokens_of_the_control_were_computed_again(specbench, profile, tmp_path):
    done = specbench("run", "cloud_optimized_baseline", "--profile", profile())
    assert done.code == 0, done.err
    kept = stored(tmp_path)
    assert kept.manifest.recomputation.texts == len(kept.generations) == 4
    assert kept.manifest.recomputation.positions == sum(len(record.tokens) for record in kept.generations)
    assert kept.manifest.recomputation.reason is None


def test_assisted_generations_first_pass_is_repeated_with_its_draft(twins):
    """It reads prompt and draft at once, so its first tokens may depart where a prompt alone never does."""
    from specbench.plugins.hf_assisted import HfAssisted

    from specbench.api import EdgeModel
    from specbench.profile import EdgeSpec

    options = Options(Decoding(), Speculative(draft_length=4))
    cloud = CloudModel(CloudSpec(model=str(twins), device="cpu"))
    assisted = HfAssisted().open(EdgeModel(EdgeSpec(model=str(twins))), cloud, options)
    alone = AutoregressiveDecoder(cloud.target(options))
    flips = 0
    for start in range(24):
        request = Request(tuple((7 * start + 11 * index) % 90 + 4 for index in range(6)), 5, frozenset())
        control = generation(method="control", tokens=tokens_of(answer(alone, request)), prompt_tokens=6)
        rounds = tuple(answer(assisted, request))
        record = generation(rounds=rounds, arrival_ms=tuple(range(len(rounds))), prompt_tokens=6)
        found = Prover(cloud, options, lambda _, request=request: request).judge(control, record)
        if found is None or found.position >= len(rounds[0].tokens):
            continue
        flips += 1
        assert rounds[0].prefilled == 6 + 4
        assert found.width == 10
        assert found.verdict == "tie"
        row, _ = by_rounds(cloud.engine, request, control.tokens[: found.position], passes_of(record))
        assert int(row.argmax()) == found.tokens[1], "the strongest sign: the replay repeats the flip"
    assert flips


def prover():
    """No model is loaded unless a position must be computed."""
    return Prover(CloudModel(CloudSpec(model="nowhere")), Options(Decoding(), Speculative()), None)


def test_a_text_that_ends_elsewhere_is_a_bug_without_further_proof():
    found = prover().judge(generation(tokens=(5, 6, 7)), generation(tokens=(5, 6)))
    assert (found.verdict, found.position, found.tokens) == (BUG, 2, (7, None))


def test_turns_that_were_asked_something_else_are_not_compared():
    control = generation(method="control", prompt_sha256="a")
    other = generation(method="m", tokens=(8, 9), prompt_sha256="b")
    assert divergences([control, other], "control", ["m"], prover()) == []


def test_repeats_with_equal_rounds_share_one_proof():
    judged = []

    class Counting(Prover):
        def judge(self, control, other):
            judged.append(other)
            return super().judge(control, other)

    counting = Counting(None, None, None)
    rounds = (Round(tokens=(5,)), Round(tokens=(6,), drafted=2, accepted=0))
    records = [generation(method="control", tokens=(5, 6, 7), repeat=repeat) for repeat in range(3)]
    records += [generation(method="m", rounds=rounds, arrival_ms=(1, 2), repeat=repeat) for repeat in range(3)]
    found = divergences(records, "control", ["m"], counting)
    assert [divergence.repeat for divergence in found] == [0, 1, 2]
    assert len(judged) == 1


def test_a_replay_of_the_rounds_finds_the_token_that_the_method_chose(twins):
    """The strongest sign that the proof repeats what happened: it repeats the flip."""
    from specbench.plugins.speculative import SpeculativeDecoding

    from specbench.api import EdgeModel, Request
    from specbench.profile import EdgeSpec
    from specbench.testing import answer, tokens_of

    options = Options(Decoding(), Speculative(draft_length=4))
    cloud = CloudModel(CloudSpec(model=str(twins), device="cpu"))
    method = SpeculativeDecoding().open(EdgeModel(EdgeSpec(model=str(twins))), cloud, options)
    flips = 0
    for start in range(8):
        request = Request(tuple((7 * index + start) % 90 + 4 for index in range(12)), 32, frozenset())
        control = cloud.target(options)
        tokens = list(control.begin(request).tokens)
        tokens += [token for commit in control.decode() for token in commit.tokens]
        rounds = answer(method, request)
        proof = Prover(cloud, options, lambda _, request=request: request)
        alone = generation(method="control", tokens=tuple(tokens))
        record = generation(method="m", rounds=tuple(rounds), arrival_ms=tuple(range(len(rounds))))
        found = proof.judge(alone, record)
        if found is None:
            assert tokens_of(rounds) == tokens
            continue
        flips += 1
        passes = [(part.drafted, part.tokens, False) for part in rounds]
        row, _ = by_rounds(cloud.engine, request, tokens[: found.position], passes)
        assert int(row.argmax()) == found.tokens[1]
        single = by_single_steps(cloud.engine, request, tokens[: found.position])
        assert int(single.argmax()) == found.tokens[0]
    assert flips


def test_coupled_texts_are_compared_by_the_scores_that_chose_them(tmp_path):
    cloud = CloudModel(CloudSpec(model=str(tiny_llama(tmp_path, seed=3)), device="cpu", dtype="float64"))
    options = Options(Decoding(temperature=0.8, top_p=0.9), Speculative(verification="coupled"))
    request = Request(tuple(range(20, 40)), 12, frozenset(), seed=77)
    tokens = tokens_of(answer(AutoregressiveDecoder(cloud.target(options)), request))
    session = cloud.engine.session()
    rows = session.extend([*request.prompt_ids, *tokens])[len(request.prompt_ids) - 1 :]
    for index, token in enumerate(tokens):
        scores = compared(rows[index], [*request.prompt_ids, *tokens[:index]], options, request)
        assert int(scores.argmax()) == token


def test_a_text_that_was_read_again_after_a_loss_is_also_judged_by_that_reading(twins):
    """The target takes it up in one pass over the whole text, of which no round tells."""
    options = Options(Decoding(), Speculative(draft_length=4))
    cloud = CloudModel(CloudSpec(model=str(twins), device="cpu"))
    verdicts = set()
    for start in range(24):
        request = Request(tuple((7 * index + start) % 90 + 4 for index in range(12)), 2, frozenset())
        target = cloud.target(options)
        first = target.begin(request).tokens[0]
        told = target.verify().tokens[0]
        again = int(cloud.engine.session(32).prefill([*request.prompt_ids, first])[-1].argmax())
        if again == told:
            continue
        proof = Prover(cloud, options, lambda _, request=request: request)
        alone = generation(method="control", tokens=(first, told))
        rounds = (Round(tokens=(first,)), Round(tokens=(again,), drafted=0, accepted=0))
        record = generation(method="m", rounds=rounds, arrival_ms=(1, 2))
        verdicts.add(
            (proof.judge(alone, record).verdict, proof.judge(alone, replace(record, interrupted=True)).verdict)
        )
    assert ("bug", "tie") in verdicts
    assert {interrupted for _, interrupted in verdicts} == {"tie"}
