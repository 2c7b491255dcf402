"""System calls that no guest needs, as a BPF program for the kernel's filter.

Everything that reaches beyond the process (other processes' memory, mounts, namespaces, kernel keys, BPF, io_uring) or
that has a history of holes. libseccomp knows the numbers on every architecture.
"""

from __future__ import annotations

import errno
import os
from functools import cache

from affectscope.errors import AffectscopeError

DENIED = (
    "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "pidfd_getfd", "pidfd_open",
    "add_key", "request_key", "keyctl", "bpf", "perf_event_open", "userfaultfd",
    "io_uring_setup", "io_uring_enter", "io_uring_register",
    "mount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr",
    "unshare", "setns", "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module",
    "reboot", "swapon", "swapoff", "acct", "quotactl", "syslog", "settimeofday", "clock_settime", "adjtimex", "personality",
    "setsid", "setpgid",  # a process group is what the host ends
    "open_by_handle_at", "name_to_handle_at", "fanotify_init", "lookup_dcookie", "nfsservctl", "uselib", "vhangup",
)  # fmt: skip
"""Denied with EPERM, by name; those that an architecture lacks are left out."""
NEW_NAMESPACES = 0x7E020000
"""Every CLONE_NEW flag of ``clone``."""
AF_UNIX, AF_INET, AF_INET6 = 1, 2, 10
"""Families of sockets that may be made; in a box without a network the last two lead nowhere."""
TIOCSTI, TIOCLINUX = 0x5412, 0x541C


@cache
def program() -> bytes:
    """The filter's BPF instructions.

    Raises:
        AffectscopeError: libseccomp is not there.
    """
    try:
        import pyseccomp as seccomp
    except (ImportError, RuntimeError, OSError) as error:
        raise AffectscopeError(
            "the sandbox needs libseccomp: `apt-get install libseccomp2`, `pip install pyseccomp`"
        ) from error
    made = seccomp.SyscallFilter(seccomp.ALLOW)
    refuse = seccomp.ERRNO(errno.EPERM)
    for name in DENIED:
        try:
            made.add_rule(refuse, name)
        except (OSError, ValueError):  # this architecture has no such call
            continue
    made.add_rule(seccomp.ERRNO(errno.ENOSYS), "clone3")  # its flags lie behind a pointer, which a filter cannot follow
    for bit in range(32):
        if NEW_NAMESPACES >> bit & 1:
            made.add_rule(refuse, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, 1 << bit, 1 << bit))
    for request in (TIOCSTI, TIOCLINUX):
        made.add_rule(refuse, "ioctl", seccomp.Arg(1, seccomp.MASKED_EQ, 0xFFFFFFFF, request))
    made.add_rule(refuse, "socket", seccomp.Arg(0, seccomp.GT, AF_INET6))
    for family in range(AF_INET + 1, AF_INET6):
        made.add_rule(refuse, "socket", seccomp.Arg(0, seccomp.EQ, family))
    with open(os.memfd_create("filter"), "w+b") as file:
        made.export_bpf(file)
        file.seek(0)
        return file.read()


def as_descriptor() -> int:
    """The program in an anonymous file, for a child to inherit; the caller closes it."""
    descriptor = os.memfd_create("seccomp", 0)
    os.write(descriptor, program())
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
