"""Which interface a server has: asked at addresses that its documentation names."""

from __future__ import annotations

from specbench.errors import SpecbenchError, nearest
from specbench.servers.base import HttpServer
from specbench.servers.client import Client
from specbench.servers.llama_cpp import LlamaCpp
from specbench.servers.openai import OpenAi, OpenAiChat, TransformersServe, listed
from specbench.servers.sglang import SgLang
from specbench.servers.vllm import Vllm

KINDS: dict[str, type[HttpServer]] = {
    each.kind: each for each in (LlamaCpp, Vllm, SgLang, TransformersServe, OpenAi, OpenAiChat)
}
OWNERS: dict[object, type[HttpServer]] = {"llamacpp": LlamaCpp, "vllm": Vllm, "sglang": SgLang}
"""By what a list of models says of who owns them."""


def opened(client: Client, kind: str | None = None, model: str | None = None) -> HttpServer:
    """The server behind a client, once it has said who it is.

    Args:
        kind: its interface; `None` asks.

    Raises:
        SpecbenchError: there is no such interface, nobody is there, or it is no server of language models.
    """
    if kind is not None and kind not in KINDS:
        raise SpecbenchError(f"there is no kind of server '{kind}'", nearest(kind, KINDS))
    server = (KINDS[kind] if kind else _kind(client, model))(client, model)
    server.look()
    return server


def _kind(client: Client, model: str | None) -> type[HttpServer]:
    entries = listed(client)
    for owner in (each.get("owned_by") for each in entries):
        if owner in OWNERS:
            return OWNERS[owner]
    if _has(client, "/props", "default_generation_settings"):
        return LlamaCpp
    if _has(client, "/get_model_info", "model_path"):
        return SgLang
    if _has(client, "/version", "version"):
        return Vllm
    paths = client.tried("/openapi.json").document
    routes = paths.get("paths", {}) if isinstance(paths, dict) else {}
    if "/load_model" in routes:
        return TransformersServe
    first = entries[0]["id"] if entries else None
    named = {"model": model or first, "max_tokens": 1, "temperature": 0.0}
    if client.tried(OpenAi.path, {**named, "prompt": "Hello"}).status not in (404, 405, 501):
        return OpenAi
    hello = {**named, "messages": [{"role": "user", "content": "Hello"}]}
    return OpenAiChat if client.tried(OpenAiChat.path, hello).status == 200 else OpenAi


def _has(client: Client, path: str, key: str) -> bool:
    answer = client.tried(path)
    return answer.status == 200 and isinstance(answer.document, dict) and key in answer.document
