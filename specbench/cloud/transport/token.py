"""The secret that a server asks for."""

from __future__ import annotations

from pathlib import Path

from specbench.errors import SpecbenchError
from specbench.results.environment import expanded


def read_token(path: Path) -> str:
    """The one line of a token file.

    Raises:
        SpecbenchError: it cannot be read, or holds no single line of ASCII.
    """
    try:
        token = expanded(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not plain ASCII"
        raise SpecbenchError(f"the token file {path} cannot be read: {reason}") from error
    if not token.isprintable() or not token or " " in token:
        raise SpecbenchError(
            f"the token file {path} is empty",
            "create one: python -c 'import secrets; print(secrets.token_urlsafe(32))' > FILE",
        )
    return token
