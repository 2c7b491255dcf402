"""A state as a running server on a free loopback port."""

import socket
import threading
from types import SimpleNamespace

import uvicorn

from affectscope.server.run import configuration


def running_server(state):
    """Its ``url``, and what ends it."""
    # Named, or asyncio does not know TCP, leaves Nagle's wait on, and each answer takes 40 ms.
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen()  # who comes before the server looks waits for it
    server = uvicorn.Server(configuration(state))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    return SimpleNamespace(url=url, server=server, thread=thread, listener=listener)
