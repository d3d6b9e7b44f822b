"""An honest server is never called dishonest, whatever its rounding does."""

import pytest
import torch
from builders import shaken
from planted import Planted
from transformers import AutoModelForCausalLM

from specbench.api import CloudModel, EdgeModel
from specbench.profile import CloudSpec, EdgeSpec
from specbench.results.records import Prompt
from specbench.testing import tiny_llama, tiny_tokenizer
from specbench.verify.records import DIFFERS, TIE, UNPROVEN

pytestmark = pytest.mark.slow
WORDS = ("hello", "what", "story", "sum", "7 * 8", "why", "apples", "the sea", "42", "night")


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """A target that holds tokens equally likely in pairs, and its draft: every position is a tie."""
    folder = tmp_path_factory.mktemp("twins")
    tiny_llama(folder / "target", seed=2)
    model = AutoModelForCausalLM.from_pretrained(folder / "target", dtype=torch.float32)
    with torch.no_grad():
        weights = model.lm_head.weight
        weights[11::2] = weights[10:-1:2]
    model.save_pretrained(folder / "target")
    tiny_tokenizer().save_pretrained(folder / "target")
    draft = shaken(folder / "draft", folder / "target", 0.1)
    return (
        CloudModel(CloudSpec(model=str(folder / "target"), device="cpu", dtype="float32")),
        EdgeModel(EdgeSpec(model=str(draft), dtype="float32")),
    )


def test_a_thousand_prompts_of_ties_raise_no_alarm(twins, verified):
    target, draft = twins
    questions = [
        Prompt(str(number), "c", (f"{WORDS[number % 10]} {WORDS[number // 10 % 10]} {number}",))
        for number in range(1000)
    ]
    with Planted(target, draft, shake=1e-5) as server, Planted(target, shake=1e-5) as reference:
        result = verified(server, reference, questions=questions, max_new_tokens=6)
    assert len(result.verdicts) == 1000
    assert result.count(TIE) > 500, "ties were not provoked"
    assert result.count(DIFFERS) == result.count(UNPROVEN) == 0
