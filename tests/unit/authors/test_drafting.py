"""What a drafter may ask of the edge's model, and of the target's own layers."""

import math
from contextlib import closing
from dataclasses import replace

import pytest
from builders import shaken
from specbench.plugins.prompt_lookup import NgramDrafter

from specbench.api import (
    CloudModel,
    Drafter,
    EdgeModel,
    Features,
    Proposal,
    Request,
    SpecbenchError,
    SpeculativeMethod,
)
from specbench.forecast.replay import ANY, play
from specbench.forecast.trace_making import readings
from specbench.forecast.traced_drafter import Text
from specbench.forecast.virtual import VirtualDrafter
from specbench.profile import CloudSpec, Decoding, EdgeSpec, EngineSpec, Options, Speculative
from specbench.testing import answer, check_method

GREEDY = Options(Decoding(), Speculative())
REQUEST = Request(tuple(range(10, 40)), 24, frozenset())


@pytest.fixture
def edge(models):
    return EdgeModel(EdgeSpec(model=str(models / "draft")))


@pytest.fixture
def cloud(models):
    return CloudModel(CloudSpec(model=str(models / "target"), device="cpu"))


def begun(drafter, *tokens):
    drafter.begin(REQUEST)
    drafter.commit(tokens or (5,), 0)
    return drafter


def test_a_draft_goes_on_behind_tokens_of_another(edge):
    alone = begun(edge.drafter(GREEDY), 5, 50, 61)
    expected = alone.propose(2).tokens
    drafter = begun(edge.drafter(GREEDY))
    drafter.append((50, 61))
    assert drafter.propose(4).tokens == (50, 61, *expected)
    drafter.commit((50, 61, *expected, 9), 4)
    drafter.check()
    alone.commit((*expected, 9), 2)
    assert drafter.propose(3).tokens == alone.propose(3).tokens


def test_tokens_of_another_that_are_refused_leave_nothing_behind(edge):
    drafter, alone = begun(edge.drafter(GREEDY)), begun(edge.drafter(GREEDY))
    drafter.append((50, 61, 7))
    drafter.propose(5)
    drafter.commit((50, 8), 1)
    drafter.check()
    alone.commit((50, 8), 0)
    assert drafter.propose(3).tokens == alone.propose(3).tokens


def test_tokens_of_another_are_never_certain_nor_judged_by_a_distribution(edge):
    gate = {"measure": "entropy", "threshold": 100.0}
    gated = Options(Decoding(), Speculative.model_validate({"gate": gate}))
    drafter = begun(edge.drafter(gated))
    assert drafter.propose(2).is_certain
    drafter.commit((6,), 0)
    drafter.append((50,))
    assert not drafter.propose(2).is_certain
    sampled = Options(Decoding(temperature=1.0), Speculative(verification="rejection"))
    with pytest.raises(ValueError, match="rejection judges tokens that this model drew"):
        begun(edge.drafter(sampled)).append((50,))


def test_the_likeliest_next_tokens_come_with_log_probabilities_and_change_no_draft(edge):
    expected = begun(edge.drafter(GREEDY)).propose(4).tokens
    drafter = begun(edge.drafter(GREEDY))
    for token in expected:
        highest = drafter.top_k(3)
        assert highest == drafter.top_k(3)
        assert highest[0][0] == token
        assert highest[0][1] >= highest[1][1] >= highest[2][1]
        drafter.append((token,))
    total = sum(math.exp(each) for each in drafter.log_probabilities().tolist())
    assert total == pytest.approx(1)
    drafter.check()
    assert drafter.propose(4).tokens == expected


def test_both_models_tell_their_tokenizer(edge, cloud):
    assert edge.tokenizer.get_vocab() == cloud.tokenizer.get_vocab()
    assert edge.tokenizer.encode("hi") == cloud.tokenizer.encode("hi")


def test_a_replay_says_that_it_knows_no_log_probabilities():
    drafter = VirtualDrafter(Text.of("0110", budget=4), lambda charge: None)
    drafter.begin(REQUEST)
    for ask in (lambda: drafter.top_k(3), drafter.log_probabilities):
        with pytest.raises(SpecbenchError, match="log-probabilities of the draft, which a trace does not hold"):
            ask()


def test_a_target_drafts_with_its_own_first_layers_over_the_same_weights(models, cloud):
    cut = EdgeModel(EdgeSpec(model=str(models / "target"), layers=1))
    drafter = cloud.self_drafter(GREEDY, layers=1)
    assert begun(drafter).propose(6).tokens == begun(cut.drafter(GREEDY)).propose(6).tokens
    whole = {tensor.data_ptr() for tensor in cloud.engine.loaded.model.parameters()}
    assert {tensor.data_ptr() for tensor in drafter._engine.loaded.model.parameters()} <= whole


def test_self_speculation_is_refused_where_the_draft_would_need_weights_that_are_elsewhere(models):
    target = str(models / "target")
    away = CloudModel(CloudSpec(model=target, device="cpu", placement="process"))
    with closing(away):
        with pytest.raises(SpecbenchError, match="beyond the link") as caught:
            away.self_drafter(GREEDY, layers=1)
        assert not away.is_loaded
    assert "cloud.placement=in_process" in caught.value.hint
    engine = EngineSpec(kind="compiled")
    compiled = CloudModel(CloudSpec(model=target, device="cpu"), engine=engine)
    with pytest.raises(SpecbenchError, match="drafts eagerly"):
        compiled.self_drafter(GREEDY, layers=1)
    with pytest.raises(SpecbenchError, match="has 2 layers, fewer than layers: 3"):
        CloudModel(CloudSpec(model=target, device="cpu")).self_drafter(GREEDY, layers=3)


class Looking(Drafter):
    """Notes how many hidden states each commit brings, and drafts nothing."""

    features = Features((0, 2), size=32, dtype="int8")

    def begin(self, request):
        self.seen = []

    def propose(self, draft_length):
        return Proposal()

    def commit(self, tokens, accepted):
        states = self.target.hidden_states
        self.seen.append(None if states is None else tuple(states.shape))
        return 0

    def check(self):
        pass


def test_a_drafter_of_ones_own_reads_hidden_states_of_the_layers_that_it_names(edge, cloud):
    class Reads(SpeculativeMethod):
        name, roles, reads_features = "reads", ("cloud",), True

        def drafter(self, edge, options):
            return Looking()

    decoder = Reads().open(edge, cloud, GREEDY)
    answer(decoder, Request(tuple(range(10, 15)), 4, frozenset()))
    assert decoder._drafter.seen == [(5, 2, 32), (1, 2, 32), (1, 2, 32), None]


class TreeDrafter(Drafter):
    def begin(self, request):
        pass

    def propose(self, draft_length):
        return Proposal((5, 6, 7), parents=(-1, -1, 0))

    def commit(self, tokens, accepted):
        return 0


def test_a_tree_that_was_not_declared_is_refused_and_not_read_as_a_chain(cloud):
    class Undeclared(SpeculativeMethod):
        name, roles = "undeclared", ("cloud",)

        def drafter(self, edge, options):
            return TreeDrafter()

    decoder = Undeclared().open(None, cloud, GREEDY)
    with pytest.raises(SpecbenchError, match="a tree was proposed to a target of chains"):
        answer(decoder, REQUEST)


class LookupThenEdge(SpeculativeMethod):
    """Two tokens from the text itself, and what the edge's model says behind them."""

    name, summary, api_version = "lookup_then_edge", "a table, continued by the edge's model", 4
    rules = frozenset({"greedy", "coupled", "one_hot"})

    def drafter(self, edge, options):
        return Continued(NgramDrafter(max_ngram=2), edge.drafter(options))


class Continued(Drafter):
    def __init__(self, table, model):
        self._table, self._model = table, model

    def begin(self, request):
        self._table.begin(request)
        self._model.begin(request)

    def propose(self, draft_length):
        self._model.append(self._table.propose(min(2, draft_length)).tokens)
        return self._model.propose(draft_length)

    def commit(self, tokens, accepted):
        self._table.commit(tokens, 0)
        return self._model.commit(tokens, accepted)

    def check(self):
        self._model.check()


def test_a_table_that_the_edge_continues_keeps_the_contract():
    check_method(LookupThenEdge())


@pytest.mark.parametrize("draft_length", [1, 3, 6])
def test_a_table_that_the_edge_continues_is_replayed_as_it_runs(models, tmp_path, draft_length):
    target = CloudModel(CloudSpec(model=str(models / "target"), device="cpu", dtype="float64"))
    draft = shaken(tmp_path / "shaken", models / "target", by=0.1)
    edge = EdgeModel(EdgeSpec(model=str(draft), dtype="float64"))
    method, options = LookupThenEdge(), Options(Decoding(), Speculative(draft_length=draft_length))
    request = Request((7, 7, 9, 12, 7, 9), 120, frozenset())
    real = answer(method.open(edge, target, options), request)
    tokens = tuple(token for part in real for token in part.tokens)
    bits = readings(edge.engine, options, request, tokens)["agrees"]
    known = {"prompt_tokens": 6, "tokens": tokens, "prompt_ids": request.prompt_ids}
    text = replace(Text.of(bits, request.max_new_tokens), **known)
    replayed = [one.part for one in play(text, ANY, method, draft_length)]
    assert [(part.tokens, part.drafted, part.accepted) for part in replayed] == [
        (part.tokens, part.drafted, part.accepted) for part in real
    ]
