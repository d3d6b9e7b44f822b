"""llama.cpp's programs for tool_parity.py. It is a peer, never a dependency.

Its programs, and a file with the same weights, come from the source inside llama-cpp-python (CMake, Ninja and
a C++ compiler; a quarter of an hour on two cores). LLAMA is the folder vendor/llama.cpp in it, and TARGET what
`python -c "from specbench.api import CloudModel; print(CloudModel().folder)"` prints:

    pip download --no-deps --no-binary llama-cpp-python "llama-cpp-python>=0.3.36"
    tar -xf llama_cpp_python-*.tar.gz
    cmake -S LLAMA -B BUILD -G Ninja -DCMAKE_BUILD_TYPE=Release -DLLAMA_BUILD_SERVER=ON -DLLAMA_BUILD_TESTS=OFF
    cmake --build BUILD --target llama-server llama-bench
    pip install sentencepiece
    python LLAMA/convert_hf_to_gguf.py TARGET --outtype f32 --outfile target-f32.gguf
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import time
from contextlib import contextmanager

from specbench.clock import now_ms

NO_FLASH = ["-fa", "off"]  # as float32 caches want it, which the server has here
FLOAT32_CACHES = ["-ctk", "f32", "-ctv", "f32"]  # they are float16 by default, and llama-bench knows no float32
LAUNCH_S = 60


@contextmanager
def server(folder, gguf, threads, context):
    """A llama-server of one slot; what asks it for an answer, as arrivals of tokens, ids and the last event."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [f"{folder}/llama-server", "-m", gguf, "-t", threads, "-tb", threads, "-c", context, "-np", 1]
    words += ["--port", port, *NO_FLASH, *FLOAT32_CACHES]
    process = subprocess.Popen(list(map(str, words)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def connected():
        return http.client.HTTPConnection("127.0.0.1", port, timeout=600)

    def answer(request):
        asked = {"prompt": list(request.prompt_ids), "n_predict": request.max_new_tokens, "temperature": 0}
        asked |= {"ignore_eos": True, "cache_prompt": False, "stream": True, "return_tokens": True}
        line, arrivals, text, last = connected(), [], [], {}
        line.request("POST", "/completion", json.dumps(asked), {"Content-Type": "application/json"})
        for event in line.getresponse():
            if event.startswith(b"data: "):
                arrived, last = now_ms(), json.loads(event[6:])
                if last.get("tokens"):
                    arrivals.append(arrived)
                    text += last["tokens"]
        line.close()
        return arrivals, tuple(text), last

    try:
        _await(connected, process)
        yield answer
    finally:
        process.terminate()
        process.wait()


def _await(connected, process):
    begun = time.monotonic()
    while time.monotonic() - begun < LAUNCH_S and process.poll() is None:
        try:
            line = connected()
            line.request("GET", "/health")
            if line.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"llama-server did not answer within {LAUNCH_S} s")


def bench(folder, gguf, threads, deep):
    """llama-bench, a process each time: what it says of a prompt in milliseconds, and of each further token.

    Args:
        deep: the tokens stand behind as many as the prompt has; else behind nothing, and a prompt is read too.
    """

    def ask(request):
        prompt, count = len(request.prompt_ids), request.max_new_tokens
        words = [f"{folder}/llama-bench", "-m", gguf, "-t", threads, "-n", count, "-r", 1, "-o", "json"]
        words += [*NO_FLASH, *(("-p", 0, "-d", prompt) if deep else ("-p", prompt))]
        done = subprocess.run(list(map(str, words)), capture_output=True, check=True)
        found = {test["n_gen"] > 0: test["avg_ns"] / 1e6 for test in json.loads(done.stdout)}
        return found.get(False), found[True] / count

    return ask
