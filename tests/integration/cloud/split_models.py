"""A tiny model on two ranks, and in one process."""

from specbench.cloud import CloudModel
from specbench.profile import CloudSpec, Decoding, Options, Speculative
from specbench.speculation.request import Request

GREEDY = Options(Decoding(), Speculative())
REQUEST = Request(tuple(range(10, 40)), 16, frozenset(), 5)


def whole(folder, **fields):
    return CloudModel(CloudSpec(model=str(folder), device="cpu", **fields))


def tokens_of(commits):
    return [token for commit in commits for token in commit.tokens]
