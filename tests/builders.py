"""Records made by hand."""

from specbench.records import Generation, Manifest, Round


def manifest(run_id="r1", **fields):
    values = {
        "run_id": run_id, "profile_name": "p", "profile": {}, "settings_sha256": "", "methods": ("m",),
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
