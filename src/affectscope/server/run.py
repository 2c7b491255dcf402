"""Run the application with uvicorn, until a signal; the end waits for what runs, and says where it listens."""

from __future__ import annotations

import signal
import socket
from pathlib import Path
from types import FrameType

import uvicorn

from affectscope.errors import AffectscopeError
from affectscope.server.app import build
from affectscope.server.connections import patient
from affectscope.server.state import State
from affectscope.terminal import say


def serve_app(state: State, host: str, port: int, certificate: Path | None = None, private: Path | None = None) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        port: 0 takes a free one.

    Raises:
        AffectscopeError: the address cannot be bound, or the certificate cannot be read.
    """
    listener = _bound(host, port)
    kind = "https" if certificate is not None else "http"
    name = f"[{host}]" if ":" in host else host
    url = f"{kind}://{name}:{listener.getsockname()[1]}"
    say(f"dashboard at {url}/ui")
    say(f"listening on {url}/v1")
    config = configuration(state, certificate, private)
    try:
        config.load()
    except (OSError, ValueError) as error:
        state.close()
        raise AffectscopeError(f"the certificate or its key cannot be used: {error}") from error
    _Server(config, state).run(sockets=[listener])


def configuration(state: State, certificate: Path | None = None, private: Path | None = None) -> uvicorn.Config:
    """How uvicorn is to serve a state."""
    return uvicorn.Config(
        build(state),
        http=patient(state.limits),
        ws="none",  # none is served, whichever library lies about
        log_level="error",  # its warnings are about what strangers send, who could fill a disk with them
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=int(state.limits.drain) + 5,
        h11_max_incomplete_event_size=64 * 2**10,
        ssl_certfile=str(certificate) if certificate is not None else None,
        ssl_keyfile=str(private) if private is not None else None,
    )


class _Server(uvicorn.Server):
    """Tells the state of a signal at once: nothing more is taken, and nobody is waited for who would answer a question."""

    def __init__(self, config: uvicorn.Config, state: State) -> None:
        super().__init__(config)
        self._state = state

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal to end."""
        self._state.begin_drain()
        self.force_exit = self.should_exit and sig == signal.SIGINT  # who presses twice does not want to wait
        self.should_exit = True  # uvicorn's own would raise the signal again after a clean end


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise AffectscopeError(f"cannot listen on {host}:{port}: {error.strerror or error}; choose another with --host or --port") from error  # fmt: skip
    return listener
