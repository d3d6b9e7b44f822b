"""The control held against passes without a cache: a few of its texts in every run, off the clock."""

from __future__ import annotations

from collections.abc import Iterable

from specbench.api import CloudLostError, SpecbenchError
from specbench.benchmark.identity import BUG, Prover
from specbench.results.records import Divergence, Generation, Recomputation

TEXTS = 4


def hold(
    generations: Iterable[Generation], control: str, prover: Prover
) -> tuple[Recomputation | None, list[Divergence]]:
    """How the control was held, and every text that is not what the model says without a cache.

    All other texts are compared with the control's, so nobody else would notice that it is wrong. `None` where
    the run has no control.

    Raises:
        CloudLostError: the cloud is gone.
    """
    found: list[Divergence] = []
    positions = texts = 0
    for record in chosen([record for record in generations if record.method == control]):
        request = prover.request_of(record)
        try:
            seen = prover.cloud.recomputed(prover.options, request, record.tokens)
        except CloudLostError:
            raise
        except SpecbenchError as error:
            return Recomputation(texts, positions, error.message), found
        except Exception as error:  # a model that has no such pass raises whatever it likes
            return Recomputation(texts, positions, f"{type(error).__name__}: {error}".splitlines()[0]), found
        texts, positions = texts + 1, positions + seen.positions
        if seen.position is None or seen.tokens is None:
            continue
        found.append(
            Divergence(
                method=control,
                prompt_id=record.prompt_id,
                turn=record.turn,
                repeat=record.repeat,
                position=seen.position,
                tokens=seen.tokens,
                margin=seen.margin,
                plausible=seen.plausible,
                verdict=BUG,
            )
        )
    return (Recomputation(texts, positions) if texts else None), found


def chosen(records: list[Generation]) -> list[Generation]:
    """Texts to hold: the shortest, the longest and some between, each prompt once."""
    once = {record.prompt_sha256: record for record in reversed(records)}
    ordered = sorted(once.values(), key=lambda record: record.prompt_tokens + len(record.tokens))
    last = len(ordered) - 1
    places = {round(last * step / (TEXTS - 1)) for step in range(TEXTS)} if ordered else set()
    return [ordered[place] for place in sorted(places, reverse=True)]
