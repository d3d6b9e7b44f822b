"""Records and drafts made by hand."""

import json
from dataclasses import dataclass

from specbench.api import CloudModel, EdgeModel, Options, SpeculativeDecoder, SpeculativeLoop, WindowLoop
from specbench.models import vocabulary
from specbench.profile import Decoding, EdgeSpec, Speculative
from specbench.results.records import Generation, Manifest, Round
from specbench.testing import tiny_llama, tiny_tokenizer

PLAIN = Options(Decoding(), Speculative())


def speculated(edge, target, options, request, at_round=lambda tokens: None):
    """The ids that the loop of every method commits; `at_round` hears before each verification how many."""
    drafter = edge.drafter(options)
    length, window = options.speculative.draft_length, options.speculative.window
    one = SpeculativeLoop(drafter, target, length)
    loop = one if window == 1 else WindowLoop(drafter, target, length, window)
    tokens = []
    for part in SpeculativeDecoder(drafter, target, loop).generate(request):
        target.check()
        tokens += part.tokens
        if part.finish_reason is None:
            at_round(len(tokens))
    return tokens


@dataclass
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


def manifest(run_id="r1", **fields):
    values = {
        "run_id": run_id, "profile_name": "p", "profile": {}, "methods": ("m",),
        "lossless": {"m": True}, "prompt_ids": ("1",), "prompts_sha256": "", "started_at": "", "command": (),
        "versions": {}, "plugins": {}, "machine": {}, "threads": 1, "models": {},
    }  # fmt: skip
    return Manifest(**{**values, **fields})


def generation(prompt_id="1", tokens=(5, 6, 7), **fields):
    rounds = tuple(Round(tokens=(token,)) for token in tokens)
    values = {
        "method": "m", "prompt_id": prompt_id, "category": "c", "turn": 0, "turns": 1, "repeat": 0,
        "prompt_tokens": 3,
        "prompt_sha256": "x", "text": "t", "finish_reason": "length", "rounds": rounds,
        "arrival_ms": tuple(10.0 * (index + 1) for index in range(len(rounds))),
    }  # fmt: skip
    return Generation(**{**values, **fields})


def write_map(path, **fields):
    path.write_text(json.dumps(fields))
    return path


def mapped_draft(folder, cloud: CloudModel, size, dtype="float32", engine=None) -> EdgeModel:
    """A random draft that knows every third token of the target's, under ids of its own."""
    tiny_llama(folder, seed=9, num_hidden_layers=1, vocab_size=size)
    (folder / "tokenizer.json").unlink()
    write_map(
        folder / "vocab_map.json",
        target_ids=[3 * index + 2 for index in range(size)],
        unknown_id=4,
        target_vocabulary_size=vocabulary.size(cloud.tokenizer),
        tokenizer_sha256=vocabulary.fingerprint(cloud.tokenizer),
    )
    return EdgeModel(EdgeSpec(model=str(folder), vocab_map="vocab_map.json", dtype=dtype), engine=engine)


def shaken(folder, target, by):
    """A copy of a model, weights moved at random by a share of their spread: it agrees often, not always."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(12)
    model = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights += by * weights.std() * torch.randn_like(weights)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def tiny_mistral(folder, window):
    """A random model whose attention sees the last `window` tokens alone."""
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(4)
    config = MistralConfig(
        vocab_size=96, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=window, initializer_range=0.3, eos_token_id=1,
    )  # fmt: skip
    MistralForCausalLM(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


BROKEN_STEPS = """
import torch
from transformers import LlamaForCausalLM

class BrokenForCausalLM(LlamaForCausalLM):
    # A pass over one token sees the last eight alone; wider passes are right.
    def forward(self, input_ids=None, attention_mask=None, past_key_values=None, cache=None, **arguments):
        name, held = ("past_key_values", past_key_values) if cache is None else ("cache", cache)
        if input_ids.shape[1] == 1 and held is not None and held.get_seq_length() > 8:
            attention_mask = torch.zeros(1, held.get_seq_length() + 1, dtype=torch.long)
            attention_mask[:, -8:] = 1
        return super().forward(input_ids, attention_mask=attention_mask, **{name: held}, **arguments)
"""


def broken_steps(folder):
    """A random Llama with code of its own, whose single steps are wrong."""
    tiny_llama(folder, seed=2)
    (folder / "modeling_broken.py").write_text(BROKEN_STEPS)
    config = json.loads((folder / "config.json").read_text())
    name = "BrokenForCausalLM"
    own = {"auto_map": {"AutoModelForCausalLM": f"modeling_broken.{name}"}, "architectures": [name]}
    (folder / "config.json").write_text(json.dumps({**config, **own}))
    return folder


def tiny(folder, model_type, code=None, draft=False, **fields):
    """A random model of any architecture that transformers knows; a draft is the same one, disturbed.

    Args:
        code: a class `Own` that lies beside the weights, in terms of the architecture's class `Base`.
    """
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    torch.manual_seed(4)
    size = {
        "vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3, "bos_token_id": None,
        "eos_token_id": 1, "pad_token_id": 0,
    }  # fmt: skip
    known = CONFIG_MAPPING[model_type]().to_dict()
    config = CONFIG_MAPPING[model_type](**{**{k: v for k, v in size.items() if k in known}, **fields})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for weights in model.parameters() if draft else ():
            weights += 0.05 * weights.std().nan_to_num() * torch.randn_like(weights)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    if code:
        base = type(model)
        source = f"import torch\nfrom {base.__module__} import {base.__name__} as Base\n\n\n{code}"
        (folder / "modeling_own.py").write_text(source)
        described = json.loads((folder / "config.json").read_text())
        described["auto_map"] = {"AutoModelForCausalLM": "modeling_own.Own"}
        (folder / "config.json").write_text(json.dumps(described))
    return folder


SMALL = {  # settings that keep a model of another architecture tiny
    "gptj": {"n_embd": 32, "n_layer": 2, "n_head": 2, "rotary_dim": 8, "n_positions": 128},
    "lfm2_moe": {
        "hidden_size": 32, "intermediate_size": 32, "moe_intermediate_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "num_experts": 4, "num_experts_per_tok": 2,
        "num_dense_layers": 1, "layer_types": ["conv", "full_attention"],
    },
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
    "recurrent_gemma": {
        "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 16, "lru_width": 32, "block_types": ["recurrent", "attention"],
    },
}  # fmt: skip


def tiny_of(folder, model_type):
    """A tiny random model of another architecture than Llama, in Hugging Face format."""
    return tiny(folder, model_type, **SMALL[model_type])


PLUGIN = """
from specbench.api import AutoregressiveDecoder, Method, hookimpl

class Mine(Method):
    name, summary, roles = "{name}", "mine", ("cloud",)
    api_version = 4

    def lossless(self, options):
        return True

    def open(self, edge, cloud, options):
        return AutoregressiveDecoder(cloud.target(options))

@hookimpl
def specbench_method() -> Method:
    return Mine()
"""

LIAR = """
from specbench.api import AutoregressiveDecoder, Method, Round, hookimpl

class Liar(Method):
    name, summary, roles = "liar", "changes the fourth token", ("cloud",)
    api_version = 4

    def lossless(self, options):
        return True

    def open(self, edge, cloud, options):
        class Lies(AutoregressiveDecoder):
            def generate(self, request):
                for index, part in enumerate(super().generate(request)):
                    drafted = {drafted} if index else None
                    tokens = (part.tokens[0] ^ 2,) if index == 3 else part.tokens
                    yield Round(tokens=tokens, drafted=drafted)

        return Lies(cloud.target(options))

@hookimpl
def specbench_method() -> Method:
    return Liar()
"""

CRASHING = """
from specbench.api import AutoregressiveDecoder, Method, hookimpl

class Crashing(Method):
    name, summary, roles = "crashing", "fails on its second request", ("cloud",)
    api_version = 4

    def open(self, edge, cloud, options):
        class Fails(AutoregressiveDecoder):
            requests = 0

            def generate(self, request):
                self.requests += 1
                if self.requests == 3:
                    raise MemoryError("no room") if {memory} else ValueError("lost my way")
                yield from super().generate(request)

        return Fails(cloud.target(options))

@hookimpl
def specbench_method() -> Method:
    return Crashing()
"""
