"""Trees that a target overtakes, which decodes alone meanwhile: what is left of them, on both sides."""

import itertools

import pytest
from builders import shaken

from specbench.api import AutoregressiveDecoder, CloudModel, EdgeModel, Options, Proposal, Request
from specbench.profile import CloudSpec, Decoding, EdgeSpec, Speculative
from specbench.results.records import Round
from specbench.speculation.flown import as_chain
from specbench.speculation.overtaking import left_of
from specbench.testing import answer, tiny_llama, tokens_of

#     5 -- 7 -- 9
#       \- 8
#     6 -- 7
TREE = Proposal((5, 6, 7, 8, 7, 9), parents=(-1, -1, 0, 0, 1, 2))
PROMPT = tuple(range(20, 50))
GREEDY = Options(Decoding(), Speculative())
COUPLED = Options(Decoding(temperature=0.9), Speculative(verification="coupled"))


def paths(tree):
    return {tuple(tree.tokens[each] for each in tree.path(node)) for node in range(len(tree))}


@pytest.mark.parametrize("said", [(), (5,), (6,), (5, 7), (5, 8), (6, 7), (5, 7, 9), (5, 8, 1), (7,), (5, 9)])
def test_what_is_left_of_a_tree_is_what_goes_on_from_what_was_said(said):
    wanted = {path[len(said) :] for path in paths(TREE) if path[: len(said)] == said and len(path) > len(said)}
    left = TREE.behind(said)
    if said in [(7,), (5, 9)]:
        assert left is None
    else:
        assert paths(left) == wanted
    assert (left is None) == (left_of([TREE], said, True) is None)


def test_first_choices_are_the_path_of_the_first_children():
    assert TREE.first_choices == (5, 7, 9)
    assert TREE.behind((6,)).first_choices == (7,)
    assert Proposal((3, 4)).first_choices == (3, 4)


@pytest.mark.parametrize(
    ("tokens", "accepted", "stood"), [((5, 7, 1), 2, 2), ((5, 8, 1), 2, 1), ((6, 7, 1), 2, 0), ((1,), 0, 0)]
)
def test_a_verdict_on_a_tree_says_how_far_its_first_choices_stood(tokens, accepted, stood):
    part = as_chain(Round(tokens, drafted=6, accepted=accepted), TREE.first_choices)
    assert (part.drafted, part.accepted, part.pass_tokens) == (3, stood, 7)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    target = tiny_llama(folder / "target", seed=7)
    near = shaken(folder / "near", target, by=0.1)
    cloud = CloudModel(CloudSpec(model=str(target), device="cpu", dtype="float64"))
    return EdgeModel(EdgeSpec(model=str(near), dtype="float64")), cloud


@pytest.mark.parametrize("options", [GREEDY, COUPLED], ids=["greedy", "coupled"])
def test_the_draft_goes_on_as_if_it_had_never_drafted_the_tree(pair, options):
    edge, cloud = pair
    request = Request(PROMPT, 40, frozenset(), 3)
    text = tokens_of(answer(AutoregressiveDecoder(cloud.target(options)), request))
    drafter, other = edge.drafter(options, trees=True), edge.drafter(options)
    for said, judged in itertools.product((0, 1, 2, 6), (True, False)):
        drafter.begin(request)
        other.begin(request)
        drafter.commit(text[:3], 0)
        tree, known = drafter.propose_tree(4, 12), 3
        for token in text[3 : 3 + said]:
            tree = tree and tree.behind((token,))
            assert drafter.overtake(token) == (tree is not None)
            known += 1
            assert drafter.uncommitted == (len(tree) if tree else 0)
            if not tree:
                break
        if judged and tree:
            accepted = max(
                size
                for size in range(tree.depth + 1)
                if tuple(text[known : known + size]) in paths(tree) or not size
            )
            drafter.commit(text[known : known + accepted + 1], accepted)
            known += accepted + 1
        elif tree:
            continue
        drafter.check()
        other.commit(text[:known], 0)
        assert drafter.propose(5) == other.propose(5)
        drafter.commit(text[known : known + 1], 0)
        other.commit(text[known : known + 1], 0)
        assert drafter.propose_tree(1, 1).tokens == other.propose(1).tokens
