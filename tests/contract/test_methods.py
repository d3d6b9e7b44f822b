"""Every registered method, ours or a stranger's, keeps one contract."""

import numpy as np
import pytest

from specbench.api import (
    AutoregressiveDecoder,
    Decoder,
    Decoding,
    Drafter,
    Method,
    Options,
    Proposal,
    Request,
    Round,
    SpecbenchError,
    Speculative,
    SpeculativeMethod,
)
from specbench.cloud import CloudModel, EdgeModel
from specbench.profile import CloudSpec, EdgeSpec, EngineSpec
from specbench.registry import discover
from specbench.speculation.stop_strings import StopStrings
from specbench.testing import PROMPT, answer, check_method, check_texts, tiny_eagle, tiny_llama, tokens_of

METHODS = discover().methods
DRAFTING = [name for name, method in METHODS.items() if isinstance(method, SpeculativeMethod)]


@pytest.mark.parametrize("name", METHODS)
def test_method_keeps_the_contract(name):
    check_method(METHODS[name])


@pytest.mark.parametrize("name", DRAFTING)
def test_method_keeps_the_contract_when_it_chooses_its_draft_length(name):
    check_method(METHODS[name], Options(Decoding(), Speculative(draft_length="auto")))


@pytest.mark.parametrize("name", ["suffix", "hybrid"])
def test_a_method_keeps_the_contract_where_its_options_ask_for_trees(name):
    check_method(METHODS[name], Options(Decoding(), Speculative(draft_length=8), {name: {"nodes": 16}}))


def test_assisted_generation_refuses_to_choose_a_draft_length():
    auto = Options(Decoding(), Speculative(draft_length="auto"))
    with pytest.raises(SpecbenchError, match="auto is not supported by hf_assisted"):
        METHODS["hf_assisted"].validate(auto)
    METHODS["hf_assisted_dynamic"].validate(auto)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "cloud_optimized_baseline",
        "speculative",
        "speculative_pipelined",
        "speculative_tree",
        "token_recycling",
        "speculative_eagle",
        "speculative_eagle_tree",
    ],
)
def test_method_keeps_the_contract_on_the_compiled_engine_too(name):
    check_method(METHODS[name], engine=EngineSpec(kind="compiled", batch_invariant=True))


@pytest.fixture(scope="module")
def split_pair(tmp_path_factory):
    """A draft here, and a target in a process of its own that is split over two ranks."""
    folder = tmp_path_factory.mktemp("pair")
    edge = EdgeModel(EdgeSpec(model=str(tiny_llama(folder / "edge", seed=1, num_hidden_layers=1))))
    target = str(tiny_llama(folder / "cloud", seed=2))
    cloud = CloudModel(CloudSpec(model=target, device="cpu", placement="process", parallel={"tensor": 2}))
    cloud.draft = edge
    yield edge, cloud
    cloud.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_method_keeps_the_contract_on_a_target_that_is_split_over_two_ranks(name, split_pair):
    method, options = METHODS[name], Options(Decoding(), Speculative())
    if name.startswith(("hf_assisted", "early_exit", "speculative_eagle")) or getattr(
        method, "drafts_trees", False
    ):
        refusals = r"both models in one process|beyond the link|cannot read a tree|reads no hidden states"
        with pytest.raises(SpecbenchError, match=refusals):
            method.open(*split_pair, options)
        return
    check_texts(method, method.open(*split_pair, options), split_pair[1], options)


class Overrunning(Method):
    """Goes on behind the budget."""

    name, summary, roles = "overrunning", "breaks its budget", ("cloud",)
    api_version = 4

    def open(self, edge, cloud, options):
        target = cloud.target(options)

        class Overrun(Decoder):
            def generate(self, request):
                yield Round(tokens=target.begin(request).tokens)
                for commit in target.decode():
                    yield Round(tokens=commit.tokens)
                yield Round(tokens=(5,))

        return Overrun()


def test_the_contract_asks_for_the_version_that_a_method_was_written_for():
    class Undated(Overrunning):
        api_version = None

    with pytest.raises(AssertionError, match="api_version None; this is 4"):
        check_method(Undated())


def test_the_contract_catches_a_method_that_overruns_its_budget():
    with pytest.raises(AssertionError, match="budget of 24"):
        check_method(Overrunning())


def yielding(**figures):
    """A method whose rounds have these figures, and tokens as a list."""

    class Yields(Overrunning):
        name = "yielding"

        def open(self, edge, cloud, options):
            class Decodes(AutoregressiveDecoder):
                def generate(self, request):
                    for part in super().generate(request):
                        yield Round(**{"tokens": list(part.tokens), **figures})

            return Decodes(cloud.target(options))

    return Yields()


def test_the_contract_takes_any_sequence_of_ids():
    check_method(yielding())


@pytest.mark.parametrize(
    ("figures", "reason"),
    [
        ({"tokens": [np.int64(5)]}, "no Python ints, but of type int64"),
        ({"bytes_up": 3.0}, "bytes_up is 3.0, and no count"),
        ({"draft_ms": np.float64(3)}, "draft_ms is np.float64.3.0., and no time in milliseconds"),
    ],
)
def test_the_contract_asks_for_figures_that_can_be_stored(figures, reason):
    with pytest.raises(AssertionError, match=reason):
        check_method(yielding(**figures))


class Lying(Overrunning):
    """Calls itself lossless and answers with the edge."""

    name, summary, roles = "lying", "is not lossless", ("edge", "cloud")

    def lossless(self, options):
        return True

    def open(self, edge, cloud, options):
        _ = cloud.engine
        return AutoregressiveDecoder(edge.target(options))


def test_the_contract_catches_a_method_that_is_not_lossless():
    with pytest.raises(AssertionError, match="its text differs"):
        check_method(Lying())


class Following(Drafter):
    """Drafts what followed the last token where it stood before."""

    carries, too_many = False, 0

    def begin(self, request):
        if not self.carries or not hasattr(self, "ids"):
            self.ids = []
        self.ids += request.prompt_ids

    def propose(self, draft_length):
        earlier = [place for place, token in enumerate(self.ids[:-1]) if token == self.ids[-1]]
        start = earlier[-1] + 1 if earlier and draft_length else len(self.ids)
        return Proposal(tuple(self.ids[start : start + draft_length + self.too_many]))

    def commit(self, tokens, accepted):
        self.ids += tokens
        return 0

    def check(self):
        pass


def following(**faults):
    """A method that drafts with `Following`."""

    class Follows(SpeculativeMethod):
        name, summary, roles = "follows", "drafts what followed before", ("cloud",)
        api_version = 4
        rules = frozenset({"greedy"})

        def drafter(self, edge, options):
            return type("Faulty", (Following,), faults)()

    return Follows()


def test_the_contract_lets_a_drafter_pass_that_forgets_each_sequence():
    check_method(following())


def test_the_contract_catches_a_drafter_that_keeps_the_sequence_before():
    with pytest.raises(AssertionError, match=r"carries something over .* drafts otherwise"):
        check_method(following(carries=True))


def test_a_draft_that_is_longer_than_asked_for_ends_its_run():
    with pytest.raises(ValueError, match="proposed 6 tokens where at most 4 were asked for"):
        check_method(following(too_many=2))


@pytest.mark.parametrize(
    "fields",
    [
        {"presence_penalty": 1.0},
        {"logit_bias": {3: 1.0}},
        {"min_new_tokens": 2},
        {"temperature": 1.0, "min_p": 0.1},
    ],
)
def test_assisted_generation_refuses_what_transformers_applies_otherwise(fields):
    rule = "rejection" if "temperature" in fields else "greedy"
    options = Options(Decoding(**fields), Speculative(verification=rule))
    with pytest.raises(SpecbenchError, match=rf"decoding\.{list(fields)[-1]} is not supported by hf_assisted"):
        METHODS["hf_assisted"].validate(options)
    METHODS["hf_assisted"].validate(Options(Decoding(stop=("END",), ignore_eos=True), Speculative()))


@pytest.fixture(scope="module")
def stop_pair(tmp_path_factory):
    """Drafts without and with the target's features, target, and what the target says alone."""
    folder = tmp_path_factory.mktemp("stops")
    edge = EdgeModel(EdgeSpec(model=str(tiny_llama(folder / "edge", seed=1, num_hidden_layers=1))))
    cloud = CloudModel(CloudSpec(model=str(tiny_llama(folder / "cloud", seed=2)), device="cpu"))
    tiny_eagle(folder / "eagle", 1, folder / "cloud")
    eagle = EdgeModel(EdgeSpec(model=str(folder / "eagle")))
    control = METHODS["cloud_optimized_baseline"].open(edge, cloud, Options(Decoding(), Speculative()))
    return (edge, eagle), cloud, tokens_of(answer(control, Request(PROMPT, 24, frozenset())))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_ends_where_a_stop_string_is_complete(name, stop_pair):
    """Whatever runs its loop, and inside a block too."""
    drafts, cloud, alone = stop_pair
    edge = drafts[getattr(METHODS[name], "reads_features", False)]
    method, options = METHODS[name], Options(Decoding(), Speculative())
    if method.helpers(options):
        pytest.skip("it needs further models")
    decoder = method.open(edge, cloud, options)
    free = alone if "cloud" in method.roles else tokens_of(answer(decoder, Request(PROMPT, 24, frozenset())))
    stops = StopStrings((f"<{free[8]}><{free[9]}>",), lambda ids: "".join(f"<{token}>" for token in ids))
    request = Request(PROMPT, 24, frozenset(), stop_strings=stops)
    end = next(count for count in range(1, 25) if stops.strings[0] in stops.decode(free[:count]))
    assert tokens_of(answer(decoder, request)) == free[:end]
