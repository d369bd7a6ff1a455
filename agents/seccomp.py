"""The system calls that a sandboxed program does not get: a filter as bubblewrap's `--seccomp` takes it.

Namespaces and limits keep a program in; this closes what they leave open. Some calls take memory that belongs to no
process, so that no limit on processes counts it; others are doors into the kernel that no data script knocks at.
"""

from __future__ import annotations

import errno
import platform
import struct

REFUSED = {
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "msgget": (68, 186),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "open_by_handle_at": (304, 265), "mount": (165, 40), "unshare": (272, 97), "setns": (308, 268),
    "umount2": (166, 39), "pivot_root": (155, 41), "open_tree": (428, 428), "move_mount": (429, 429),
    "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442),
}  # fmt: skip
"""Name → its number on x86_64 and on aarch64 (asm/unistd.h)."""

CLONE, CLONE3 = (56, 220), (435, 435)
"""What starts processes and threads. `clone` is refused a namespace of its own, in which a program would have every
capability; the flags of `clone3` lie in memory that a filter cannot read, so it is said not to exist, and the C library
takes `clone`."""
NAMESPACES = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET of <linux/sched.h>."""

PRETENDED = {"chmod": (90, 53), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452)}
"""Calls that succeed and do nothing where root runs the sandbox: without a capability it still owns the nodes in /dev,
which are the machine's, and could take them from everyone else. aarch64 has no chmod of its own."""

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Machine → column of REFUSED, and AUDIT_ARCH of <linux/audit.h>."""
_X32_BIT = 0x40000000
"""Set in the numbers of x86_64's second ABI, under which every call has another number."""

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
"""BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_JMP|JGE|K, BPF_JMP|JSET|K, BPF_RET|K of <linux/bpf_common.h>."""
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
"""Offsets in struct seccomp_data; of the argument, the lower half on these two machines."""
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
"""SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO of <linux/seccomp.h>."""


def filter_program(as_root: bool, machine: str = platform.machine()) -> bytes:
    """The filter for a machine's own ABI: REFUSED, a `clone` into NAMESPACES, and all of another ABI, fail with EPERM.

    as_root: whether PRETENDED is in it. Empty for a machine whose numbers are not written down here: the sandbox then
    stands without it.
    """
    if machine not in _ARCHITECTURES:
        return b""
    column, architecture = _ARCHITECTURES[machine]
    refused = [(_EQUAL, pair[column]) for pair in REFUSED.values()]
    if machine == "x86_64":
        refused.append((_AT_LEAST, _X32_BIT))
    pretended = sorted({pair[column] for pair in PRETENDED.values()}) if as_root else []
    allow, fail, pretend, absent = "allow", "fail", "pretend", "absent"
    # (test, operand, where to if so, where to if not); without a place, the next one.
    steps = [
        (_LOAD, _ARCHITECTURE_AT, "", ""),
        (_EQUAL, architecture, "", fail),
        (_LOAD, _NUMBER_AT, "", ""),
        *((test, number, fail, "") for test, number in refused),
        (_EQUAL, CLONE3[column], absent, ""),
        *((_EQUAL, number, pretend, "") for number in pretended),
        (_EQUAL, CLONE[column], "", allow),
        (_LOAD, _FIRST_ARGUMENT_AT, "", ""),
        (_ANY_BIT, NAMESPACES, fail, ""),
    ]
    ends = {allow: _ALLOW, fail: _FAIL | errno.EPERM, pretend: _FAIL, absent: _FAIL | errno.ENOSYS}
    places = {name: len(steps) + at for at, name in enumerate(ends)}
    program = [
        _instruction(test, operand, *(places[to] - at - 1 if to else 0 for to in (then, otherwise)))
        for at, (test, operand, then, otherwise) in enumerate(steps)
    ]
    program += [_instruction(_RETURN, value) for value in ends.values()]
    return b"".join(program)


def _instruction(code: int, operand: int, then: int = 0, otherwise: int = 0) -> bytes:
    """A struct sock_filter; `then` and `otherwise` are how many instructions a jump passes over."""
    return struct.pack("=HBBI", code, then, otherwise, operand)
