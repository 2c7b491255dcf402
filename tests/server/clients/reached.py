"""Where a client goes: every address that it connects to or looks up, but loopback's."""

import sys

LOOPBACK = ("127.0.0.1", "localhost")


def watch():
    """Begin; returns the list that grows."""
    found = []

    def look(event, given):
        if event == "socket.getaddrinfo" and given[0] not in LOOPBACK:
            found.append(str(given[0]))
        elif event == "socket.connect" and isinstance(given[1], tuple) and given[1][0] not in LOOPBACK:
            found.append(str(given[1][0]))

    sys.addaudithook(look)
    return found
