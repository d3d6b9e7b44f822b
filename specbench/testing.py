"""For authors of methods: tiny real models, and the contract that every method keeps.

    from specbench.testing import check_method
    check_method(MyMethod())

needs no download and takes seconds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from specbench.api import API_VERSION, CloudModel, Decoder, EdgeModel, Method, Options, Request, Round
from specbench.config import CloudSpec, Decoding, EdgeSpec, EngineSpec, Speculative
from specbench.promises import broken_promise

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VOCABULARY_SIZE = 96
STOP_ID = 1
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def tiny_tokenizer(vocabulary_size: int = VOCABULARY_SIZE) -> PreTrainedTokenizerFast:
    """A tokenizer of single characters, with a chat template; id 1 ends a text."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<unk>", "<|end|>", "<|user|>", "<|assistant|>"]
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,:;?!'-\n()/+*=%&\"#@_<>[]{}"
    tokens = [*special, *letters][:vocabulary_size]
    tokens += [f"~{index}" for index in range(len(tokens), vocabulary_size)]
    backend = Tokenizer(
        models.WordLevel({token: index for index, token in enumerate(tokens)}, unk_token="<unk>")
    )
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    backend.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="<|end|>")
    tokenizer.add_special_tokens({"additional_special_tokens": special[2:]})
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def tiny_llama(folder: Path, seed: int, **config: object) -> Path:
    """Write a random Llama with its tokenizer, in Hugging Face format; returns the folder.

    Args:
        config: fields of `LlamaConfig` that differ from two layers of width 32.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    fields: dict = {
        "vocab_size": VOCABULARY_SIZE, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048,
        "bos_token_id": None, "eos_token_id": STOP_ID, "initializer_range": 0.3,
    }  # fmt: skip
    torch.manual_seed(seed)
    LlamaForCausalLM(LlamaConfig(**{**fields, **config})).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def answer(decoder: Decoder, request: Request) -> list[Round]:
    """All rounds of one request, with the decoder's own check after each."""
    rounds = []
    for part in decoder.generate(request):
        broken = broken_promise(part)
        assert broken is None, f"the method {broken}"
        rounds.append(part)
        decoder.check()
    return rounds


def tokens_of(rounds: Sequence[Round]) -> list[int]:
    """The committed ids of a generation."""
    return [token for part in rounds for token in part.tokens]


def check_method(method: Method, options: Options | None = None, engine: EngineSpec | None = None) -> None:
    """Assert the contract of a method on a tiny pair: laziness, budget, stop rules, counts, statelessness.

    Args:
        engine: what runs the models; the eager engine when absent.

    Raises:
        AssertionError: naming what is broken.
    """
    options = options or Options(Decoding(), Speculative())
    written_for = method.api_version
    assert written_for == API_VERSION, f"{method.name} has api_version {written_for}; this is {API_VERSION}"
    method.validate(options)
    with tempfile.TemporaryDirectory() as scratch:
        edge_folder = tiny_llama(Path(scratch) / "edge", seed=1, num_hidden_layers=1)
        cloud_folder = tiny_llama(Path(scratch) / "cloud", seed=2)
        edge = EdgeModel(EdgeSpec(model=str(edge_folder)), engine=engine)
        cloud = CloudModel(CloudSpec(model=str(cloud_folder), device="cpu"), engine=engine)
        decoder = method.open(edge, cloud, options)
        assert edge.is_loaded == ("edge" in method.roles), f"{method.name} does not load what roles says (edge)"
        assert cloud.is_loaded == ("cloud" in method.roles), (
            f"{method.name} does not load what roles says (cloud)"
        )
        check_texts(method, decoder, cloud, options)


def check_texts(method: Method, decoder: Decoder, cloud: CloudModel, options: Options) -> None:
    """Assert what texts keep on any cloud: budget, stop rules, counts, statelessness, the control's words.

    Raises:
        AssertionError: naming what is broken.
    """
    prompt = tuple(range(10, 40))
    free = tokens_of(answer(decoder, Request(prompt, 24, frozenset())))
    assert len(free) == 24, f"{method.name} committed {len(free)} tokens of a budget of 24"
    again = tokens_of(answer(decoder, Request(prompt, 24, frozenset())))
    assert again == free, f"{method.name} carries something over from one request to the next"
    for budget in (1, 2, 7):
        rounds = answer(decoder, Request(prompt, budget, frozenset()))
        assert tokens_of(rounds) == free[:budget], f"{method.name} changes its text with the budget"
        _check_rounds(method, rounds)
    stop = free[9]
    expected = free[: free.index(stop) + 1]
    rounds = answer(decoder, Request(prompt, 24, frozenset([stop])))
    assert tokens_of(rounds) == expected, f"{method.name} does not end at the first stop token"
    _check_rounds(method, rounds)
    if method.repeats_control(options):
        control = cloud.target(options)
        first = control.begin(Request(prompt, 24, frozenset()))
        alone = [*first.tokens, *(token for commit in control.decode() for token in commit.tokens)]
        assert free == alone, f"{method.name} says that it repeats the control, and its text is another"


def _check_rounds(method: Method, rounds: Sequence[Round]) -> None:
    assert rounds[0].drafted is None, f"{method.name}: the first round is the target's own token"
