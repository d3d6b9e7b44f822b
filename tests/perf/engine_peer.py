"""Figure 4: the control against llama.cpp with the same weights in float32.

llama.cpp is a peer, never a dependency. Its Python package is compiled when it is installed (CMake and a C++
compiler, some minutes), into a folder of its own so that the environment stays as it is:

    CMAKE_ARGS="-DLLAVA_BUILD=OFF" pip install --no-deps --target /tmp/llama llama-cpp-python diskcache
    PYTHONPATH=/tmp/llama python tests/perf/engine.py llama

Its GGUF file (538 MB) is written here from the weights that the control reads, into a temporary folder.
"""

from __future__ import annotations

import ctypes
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from engine_measure import Pair, answer, demand_compiled, middle, parser, ratio, show, tokens_of

sys.path.insert(0, str(Path(__file__).parents[1]))

from gguf_models import write_llama
from specbench.plugins.cloud_optimized_baseline import CloudOptimizedBaseline

from specbench.engine.threads import release_compute_threads

PREFILL = 512


def llama(rest):
    arguments = parser(prompts=24, tokens=32).parse_args(rest)
    try:
        import llama_cpp
    except ImportError:
        raise SystemExit(__doc__) from None
    ours = Pair(arguments.profile, "compiled")
    demand_compiled(ours.cloud)
    decoder = CloudOptimizedBaseline().open(ours.edge, ours.cloud, ours.options)
    times, same = {"llama.cpp": [], "specbench": []}, 0
    requests = list(ours.requests("builtin", arguments.prompts, arguments.tokens))
    room = max(len(request.prompt_ids) for request in requests) + arguments.tokens
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "same-weights-f32.gguf"
        write_llama(ours.cloud.engine.loaded.model, path)
        peer = Peer(llama_cpp, path, room, torch.get_num_threads(), ours.cloud.engine.vocabulary_size)
        for turn, request in enumerate([requests[0], *requests]):
            ms, rounds = answer(decoder, request)
            release_compute_threads()  # llama.cpp may bring threads of its own
            theirs, text = peer.answer(request)
            if turn:
                times["specbench"].append(ms)
                times["llama.cpp"].append(theirs)
                same += text == tokens_of(rounds)
    show("llama.cpp", llama_cpp.llama_print_system_info().decode().strip()[:100])
    for name, column in times.items():
        show(f"{name}, ms a token", middle(column))
    show("equal texts (ties may part them)", f"{same} of {len(requests)}")
    show("llama.cpp / specbench control", ratio(times["llama.cpp"], times["specbench"]), "0.95, better 1.0")


class Peer:
    """Greedy decoding by llama.cpp's own C interface: its logits, and the highest of them."""

    def __init__(self, llama_cpp, path, room, threads, vocabulary_size):
        self._api, self._vocabulary_size = llama_cpp, vocabulary_size
        self._silent = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self._silent, ctypes.c_void_p())
        llama_cpp.llama_backend_init()
        model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx, settings.n_batch = room, PREFILL
        settings.n_threads = settings.n_threads_batch = threads
        self._context = llama_cpp.llama_init_from_model(model, settings)
        if not self._context:
            raise SystemExit("llama.cpp cannot load the file that was written for it")

    def answer(self, request):
        """Milliseconds per token behind the first, and the text."""
        self._api.llama_memory_clear(self._api.llama_get_memory(self._context), True)
        ids = list(request.prompt_ids)
        for begin in range(0, len(ids), PREFILL):
            token = self._step(ids[begin : begin + PREFILL])
        text, started = [token], time.perf_counter()
        while len(text) < request.max_new_tokens:
            text.append(self._step(text[-1:]))
        return (time.perf_counter() - started) * 1000 / (len(text) - 1), text

    def _step(self, ids):
        tokens = (self._api.llama_token * len(ids))(*ids)
        if self._api.llama_decode(self._context, self._api.llama_batch_get_one(tokens, len(ids))):
            raise SystemExit("llama.cpp could not read the tokens")
        logits = self._api.llama_get_logits_ith(self._context, -1)
        return int(np.ctypeslib.as_array(logits, shape=(self._vocabulary_size,)).argmax())
