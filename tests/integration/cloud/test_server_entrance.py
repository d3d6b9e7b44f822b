"""Who is let in by a server that asks for a token."""

import socket

import pytest
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.uri import parse_uri

from specbench.cloud.transport.socket import SocketChannel
from specbench.errors import SpecbenchError


def test_a_token_is_asked_for_before_anything_is_read(start):
    running = start(token="right")
    for token, reason in ((None, "shows no token"), ("wrong", "token is wrong")):
        with pytest.raises(SpecbenchError, match=reason):
            SocketChannel(running.url, token)
    assert running.server.sessions == 0
    SocketChannel(running.url, "right").close()


def test_a_web_page_is_no_edge_and_no_header_is_an_error_of_ours(start):
    running = start(token="right")
    for headers in ({"Origin": "http://example.org", "Authorization": "Bearer right"}, {}):
        with pytest.raises(InvalidStatus) as refused:
            connect(running.url, additional_headers=headers, proxy=None)
        assert refused.value.response.status_code == (403 if headers else 401)
    with socket.create_connection(("127.0.0.1", running.port)) as sock:
        edge = ClientProtocol(parse_uri(running.url))
        request = edge.connect().serialize().replace(b"\r\n\r\n", b"\r\nAuthorization: Bearer \xff\r\n\r\n")
        sock.sendall(request)
        assert b"401" in sock.recv(65536).splitlines()[0]
