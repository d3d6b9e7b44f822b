"""For authors of methods: tiny real models, and the contract that every method keeps.

    from specbench.testing import check_method
    check_method(MyMethod())

needs no download and takes seconds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from specbench.api import API_VERSION, CloudModel, Decoder, EdgeModel, Method, Options, Request, Round
from specbench.errors import first_line
from specbench.profile import CloudSpec, Decoding, EdgeSpec, EngineSpec, Speculative
from specbench.speculation.round_checks import broken_promise

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PLAIN = Options(Decoding(), Speculative())
PROMPT = tuple(range(10, 40))
OTHER_PROMPT = tuple(range(50, 5, -1))
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
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
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


def tiny_eagle(folder: Path, seed: int, target: Path, layers: Sequence[int] = (0, 1, 2)) -> Path:
    """Write a random draft that reads hidden states of a Llama; returns the folder.

    Args:
        target: the Llama's folder.
        layers: of the target, as of `Features`.
    """
    import torch
    from transformers import AutoConfig

    from specbench.models.eagle import EagleForCausalLM, eagle_config

    config = eagle_config(AutoConfig.from_pretrained(target), tuple(layers))
    torch.manual_seed(seed)
    EagleForCausalLM(config).save_pretrained(folder)
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


def drafts_of(rounds: Sequence[Round]) -> list[tuple[int | None, int | None]]:
    """How many tokens each round drafted, and how many of them were accepted."""
    return [(part.drafted, part.accepted) for part in rounds]


def check_method(method: Method, options: Options | None = None, engine: EngineSpec | None = None) -> None:
    """Assert the contract of a method on a tiny pair: laziness, budget, stop rules, counts, statelessness.

    Args:
        engine: what runs the models; the eager engine when absent.

    Raises:
        AssertionError: naming what is broken.
    """
    options = options or PLAIN
    with _tiny_pair(method, options, engine) as pair:
        for check in Contract(method, options, *pair).checks:
            check()


def checks(method: Method, options: Options | None = None) -> Iterator[tuple[str, str | None]]:
    """The same one by one: what each check asks for, and what is broken, or `None`.

    Where a method cannot be opened, the checks of its texts are left out.
    """
    options = options or PLAIN
    with _tiny_pair(method, options) as pair:
        contract = Contract(method, options, *pair)
        for check in contract.checks:
            try:
                check()
                problem = None
            except Exception as error:  # a stranger's method raises whatever it likes
                problem = first_line(error) if isinstance(error, AssertionError) else repr(error)
            yield str(check.__doc__).partition("\n")[0].rstrip("."), problem
            if contract.decoder is None and check == contract.loads_what_it_names:
                return


def check_texts(method: Method, decoder: Decoder, cloud: CloudModel, options: Options) -> None:
    """Assert what texts keep on any cloud: budget, stop rules, counts, statelessness, the control's words.

    Raises:
        AssertionError: naming what is broken.
    """
    for check in Contract(method, options, None, cloud, decoder).of_texts:
        check()


@contextmanager
def _tiny_pair(
    method: Method, options: Options, engine: EngineSpec | None = None
) -> Iterator[tuple[EdgeModel, CloudModel]]:
    with tempfile.TemporaryDirectory() as scratch:
        others = {
            name: EdgeSpec(model=str(tiny_llama(Path(scratch) / name, seed=3 + index, num_hidden_layers=1)))
            for index, name in enumerate(method.helpers(options))
        }
        cloud_folder, edge_folder = tiny_llama(Path(scratch) / "cloud", seed=2), Path(scratch) / "edge"
        if getattr(method, "reads_features", False):
            tiny_eagle(edge_folder, 1, cloud_folder)
        else:
            tiny_llama(edge_folder, seed=1, num_hidden_layers=1)
        yield (
            EdgeModel(EdgeSpec(model=str(edge_folder), helpers=others or None), engine=engine),
            CloudModel(CloudSpec(model=str(cloud_folder), device="cpu"), engine=engine),
        )


class Contract:
    """What every method keeps, a check each; one that fails raises an `AssertionError`.

    Args:
        edge: `None` where the method is open already.
    """

    def __init__(
        self,
        method: Method,
        options: Options,
        edge: EdgeModel | None,
        cloud: CloudModel,
        decoder: Decoder | None = None,
    ) -> None:
        self.method = method
        self.options = options
        self.edge = edge
        self.cloud = cloud
        self.decoder = decoder

    @property
    def checks(self) -> list[Callable[[], None]]:
        """All of them, in the order in which they are to be made."""
        return [self.knows_the_version, self.takes_the_options, self.loads_what_it_names, *self.of_texts]

    @property
    def of_texts(self) -> list[Callable[[], None]]:
        """Those that need the decoder alone."""
        return [
            self.spends_the_budget,
            self.carries_nothing_over,
            self.cuts_at_the_budget,
            self.ends_at_the_first_stop_token,
            self.repeats_the_control,
        ]

    def knows_the_version(self) -> None:
        """It was written for this version of the API."""
        written_for = self.method.api_version
        assert written_for == API_VERSION, (
            f"{self.method.name} has api_version {written_for}; this is {API_VERSION}"
        )

    def takes_the_options(self) -> None:
        """It takes the default options."""
        self.method.validate(self.options)

    def loads_what_it_names(self) -> None:
        """It opens, and loads the models that `roles` names and no other."""
        assert self.edge is not None
        self.decoder = self.method.open(self.edge, self.cloud, self.options)
        for role, model in (("edge", self.edge), ("cloud", self.cloud)):
            assert model.is_loaded == (role in self.method.roles), (
                f"{self.method.name} does not load what roles says ({role})"
            )

    def spends_the_budget(self) -> None:
        """It commits as many tokens as the budget where nothing stops it."""
        assert len(self._free) == 24, f"{self.method.name} committed {len(self._free)} tokens of a budget of 24"

    def carries_nothing_over(self) -> None:
        """It answers a request the same way again, and drafts the same for it behind another request."""
        assert self.decoder is not None
        first = self._first
        answer(self.decoder, Request(OTHER_PROMPT, 24, frozenset()))
        again = self._answer(24)
        carries = f"{self.method.name} carries something over from one request to the next"
        assert tokens_of(again) == self._free, carries
        if not self.method.depends_on_time(self.options):
            assert drafts_of(again) == drafts_of(first), f"{carries}: it drafts otherwise when asked again"

    def cuts_at_the_budget(self) -> None:
        """It ends at the budget wherever that falls in a block, and counts what it drafted."""
        for budget in (1, 2, 7):
            rounds = self._answer(budget)
            assert tokens_of(rounds) == self._free[:budget], (
                f"{self.method.name} changes its text with the budget"
            )
            self._check_rounds(rounds)

    def ends_at_the_first_stop_token(self) -> None:
        """It ends at the first stop token, inside a block too."""
        stop = self._free[9]
        rounds = self._answer(24, stop)
        expected = self._free[: self._free.index(stop) + 1]
        assert tokens_of(rounds) == expected, f"{self.method.name} does not end at the first stop token"
        self._check_rounds(rounds)

    def repeats_the_control(self) -> None:
        """Its text is the control's where it says so."""
        if not self.method.repeats_control(self.options):
            return
        control = self.cloud.target(self.options)
        first = control.begin(Request(PROMPT, 24, frozenset()))
        alone = [*first.tokens, *(token for commit in control.decode() for token in commit.tokens)]
        assert self._free == alone, f"{self.method.name} declares repeats_control, but its text differs"

    @cached_property
    def _first(self) -> list[Round]:
        """Its first answer, which nothing stops."""
        return self._answer(24)

    @property
    def _free(self) -> list[int]:
        return tokens_of(self._first)

    def _answer(self, budget: int, *stop_ids: int) -> list[Round]:
        assert self.decoder is not None
        return answer(self.decoder, Request(PROMPT, budget, frozenset(stop_ids)))

    def _check_rounds(self, rounds: Sequence[Round]) -> None:
        assert rounds[0].drafted is None, f"{self.method.name}: the first round is the target's own token"
