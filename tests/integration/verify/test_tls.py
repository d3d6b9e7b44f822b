"""A certificate that the server signed itself is refused, unless the user trusts it."""

import ssl
import subprocess

import pytest
from planted import Planted

from specbench.api import CloudModel, SpecbenchError
from specbench.profile import CloudSpec
from specbench.servers.client import Client
from specbench.servers.probing import opened


@pytest.fixture
def served_over_tls(models, tmp_path):
    certificate, key = tmp_path / "server.pem", tmp_path / "server.key"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"]
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-out", certificate, "-keyout", key]
    subprocess.run([*made, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    target = CloudModel(CloudSpec(model=str(models / "target"), device="cpu", dtype="float32"))
    with Planted(target) as server:
        server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
        yield server.url.replace("http:", "https:"), certificate


def test_a_self_signed_certificate_is_refused_unless_it_is_named_or_all_are_taken(served_over_tls):
    url, certificate = served_over_tls
    with pytest.raises(SpecbenchError, match=r"certificate of .* is not accepted") as refused:
        opened(Client(url))
    assert "--insecure" in refused.value.hint
    assert opened(Client(url, ca_file=certificate)).kind == "llama.cpp"
    assert opened(Client(url, insecure=True)).kind == "llama.cpp"
