"""The attack matrix: every attack against every tier, and the bare run beside them, which shows that the attack works.

A cell says what the guest reports: "yes" (it got there), "no" (it was refused), or why the parent ended it.
"""

import os
import socket
import textwrap
import time
from functools import cache

import pytest

from affectscope.suites.sandbox.box import Box
from affectscope.suites.sandbox.limits import Limits
from affectscope.suites.sandbox.probe import _try, probe

TIERS = ("bare", "landlock", "namespaces", "full")
HEAD = """
import ctypes, os, socket, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def tried(what):
    try:
        return bool(what())
    except (OSError, MemoryError):
        return False
def say(yes):
    print("yes" if yes else "no", flush=True)
"""
ATTACKS = {
    "read a file outside": ("say(tried(lambda: open(sys.argv[1]).read()))", "yes no no no"),
    "write a file outside": ("say(tried(lambda: open(sys.argv[1], 'a').write('x')))", "yes no no no"),
    "write to /usr/lib": ("say(tried(lambda: open('/usr/lib/affectscope-attack', 'w')))", "- no no no"),
    "read the parent's environment": ("say(tried(lambda: b'PATH=' in open(f'/proc/{sys.argv[2]}/environ', 'rb').read()))", "yes no no no"),
    "list the host's processes": ("say(os.path.exists(f'/proc/{sys.argv[2]}/cmdline') and b'python' in open(f'/proc/{sys.argv[2]}/cmdline', 'rb').read())", "yes - no no"),
    "connect to the host by TCP": ("say(tried(lambda: socket.create_connection(('127.0.0.1', int(sys.argv[3])), 2)))", "yes no no no"),
    "send to the host by UDP": ("s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\nsay(tried(lambda: s.sendto(b'x', ('127.0.0.1', int(sys.argv[4])))))", "yes yes no no"),
    "connect to an abstract socket": ("s = socket.socket(socket.AF_UNIX)\nsay(tried(lambda: s.connect('\\0' + sys.argv[5]) or True))", "yes no no no"),
    "open a netlink socket": ("say(tried(lambda: socket.socket(16, socket.SOCK_RAW)))", "yes no no no"),
    "make a user namespace": ("say(libc.unshare(0x10000000) == 0)", "- no no no"),
    "mount": ("os.mkdir('m')\nsay(libc.mount(b'none', b'm', b'tmpfs', 0, None) == 0)", "- no no no"),
    "trace itself": ("say(libc.ptrace(0, 0, 0, 0) == 0)", "yes no no no"),
    "use the kernel's keyring": ("say(libc.syscall(248, b'user', b'affectscope', b'x', 1, -3) > 0)", "- no no no"),
    "set up io_uring": ("import struct\nsay(libc.syscall(425, 4, ctypes.create_string_buffer(120)) >= 0)", "- no no no"),
    "signal a process outside": ("say(tried(lambda: os.kill(int(sys.argv[2]), 0) or True))", "yes no no no"),
    "eat memory in one process": ("say(tried(lambda: bytearray(300 << 20)))", "no no no no"),
    "eat memory in many processes": (
        "for _ in range(6):\n    if os.fork() == 0:\n        held = bytearray(100 << 20)\n        for i in range(0, len(held), 4096): held[i] = 1\n        time.sleep(3); os._exit(0)\n"
        "codes = [os.wait()[1] for _ in range(6)]\nsay(not any(codes))", "yes killed yes killed"),
    "fork without end": (
        "made = 0\nfor _ in range(200):\n    try:\n        if os.fork() == 0:\n            time.sleep(2); os._exit(0)\n        made += 1\n    except OSError:\n        break\n"
        "say(made >= 200)", "yes no - no"),
    "write one large file": ("f = open('big', 'wb')\nsay(tried(lambda: [f.write(bytes(1 << 20)) or f.flush() for _ in range(32)]))", "no no no no"),
    "write many files": ("for i in range(40):\n    with open(f'f{i}', 'wb') as f: f.write(os.urandom(4 << 20))\n    time.sleep(0.05)\nsay(True)", "disk disk disk disk"),
    "loop for ever": ("while True: pass", "time time time time"),
    "flood the output": ("while True: sys.stderr.write('x' * 65536)", "output output output output"),
    "survive as a daemon": (
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(1.5)\n        open('alive', 'w').write('x')\n    os._exit(0)\nos.wait()\nsay(True)", "alive gone gone gone"),
}  # fmt: skip
CONTAINERS_REFUSE = ("trace itself", "open a netlink socket", "read the parent's environment")
"""Attacks that may fail without a box of ours, where the tests run in somebody else's; all others must work bare."""
SMALL = Limits(seconds=6, cpu_seconds=20, memory=256 << 20, processes=24, file=16 << 20, scratch=48 << 20)


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """What a guest wants: a secret, a listening port of each kind, an abstract socket."""
    secret = tmp_path_factory.mktemp("host") / "secret"
    secret.write_text("secret")
    name = f"affectscope-{os.getpid()}"
    with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket(socket.AF_UNIX) as abstract:  # fmt: skip
        for listening in (tcp, udp):
            listening.bind(("127.0.0.1", 0))
        udp.setblocking(False)
        tcp.listen()
        abstract.bind("\0" + name)
        abstract.listen()
        ports = [str(listening.getsockname()[1]) for listening in (tcp, udp)]
        yield [str(secret), str(os.getpid()), *ports, name], udp


missing = cache(_try)


def arrived(udp):
    try:
        return bool(udp.recv(10))
    except BlockingIOError:
        return False


CELLS = [
    (attack, tier) for attack, (_, row) in ATTACKS.items() for tier, wanted in zip(TIERS, row.split(), strict=True) if wanted != "-"
]  # fmt: skip
UNTRIED = {
    "write to /usr/lib": "it would change the host",
    "make a user namespace": "hosts differ in whether it is allowed",
    "mount": "it would change the host",
    "use the kernel's keyring": "hosts differ in whether it is allowed",
    "set up io_uring": "hosts differ in whether it is allowed",
    "list the host's processes": "the tier does not hide them, and hosts may",
    "fork without end": "the bound is on the user of the box, who on some hosts is the user of the tests",
}
"""Why a cell is "-": one an attack."""


def test_a_cell_that_is_not_tried_has_its_reason():
    assert {attack for attack, (_, row) in ATTACKS.items() if "-" in row.split()} == set(UNTRIED)
    assert sum(row.split().count("-") for _, row in ATTACKS.values()) == len(UNTRIED)


@pytest.mark.parametrize(("attack", "tier"), CELLS)
def test_matrix(attack, tier, outside, tmp_path):
    if tier != "bare" and (cause := missing(tier)):
        pytest.skip(f"not to be had here: {cause}")
    code, row = ATTACKS[attack]
    expected = row.split()[TIERS.index(tier)]
    (tmp_path / "guest.py").write_text(HEAD + textwrap.dedent(code) + "\n")
    arguments, udp = outside
    ran = Box(tmp_path, tier, SMALL).python("guest.py", *arguments)
    if attack == "send to the host by UDP":  # to send is not yet to arrive
        assert ("yes" if arrived(udp) else "no") == expected
    elif attack == "survive as a daemon":
        time.sleep(2.5)
        assert ("alive" if (tmp_path / "alive").exists() else "gone") == expected
    elif expected == "killed":  # the kernel ends one of the group, or all
        assert ran.out.strip() != b"yes"
    elif expected in ("time", "output", "disk"):
        assert ran.killed == expected
        assert ran.seconds < SMALL.seconds + 3
    elif tier == "bare" and attack in CONTAINERS_REFUSE and ran.out.strip() == b"no":
        pytest.skip("this machine refuses it even without a box")
    else:
        assert ran.out.decode().strip() == expected, ran.err.decode()[-500:]


def test_this_machine_gives_some_tier():
    assert probe().tier is not None, probe().refused
