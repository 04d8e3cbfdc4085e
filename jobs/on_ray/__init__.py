"""Everything that imports Ray.

A Ray that a job starts on this machine asks every client for a token, so that no other user of the machine or its
network can give it work. Ray reads that choice while it is imported, so it is made here, before any file of this
folder imports it. A cluster that one was told of (RAY_ADDRESS) has its own rules.
"""

from __future__ import annotations

import os
import secrets
import sys


def ask_for_a_token() -> None:
    """Makes a private Ray of this process ask for a random token; nothing where Ray or its user has chosen already."""
    if "ray" in sys.modules or "RAY_ADDRESS" in os.environ or "RAY_AUTH_MODE" in os.environ:
        return
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


ask_for_a_token()
