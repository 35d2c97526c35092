"""Claims of the compiled form as subscripts, so that no signal handler can take the decision away.

After a call of compiled code, CPython runs signal handlers before the caller has the result. If one raises, nobody has
the Decision, and its slot stays taken. After a subscript and after the return from a Python function, CPython runs no
handlers. So the methods of MemoryBackend are Python functions that return a subscript.
"""

from typing import Any, Final

from awx_ratelimit.backends.memory.deciding_memory import DecidingMemory
from awx_ratelimit.backends.memory.joint_memory import JointMemory
from awx_ratelimit.core.decision import Decision


class _Claims:
    """``claimed[backend, subject, plan, cost]`` is ``DecidingMemory.acquire(backend, subject, plan, cost)``."""

    def __getitem__(self, claim: tuple[DecidingMemory, Any, Any, Any]) -> Decision:
        backend, subject, plan, cost = claim
        return DecidingMemory.acquire(backend, subject, plan, cost)


class _JointClaims:
    """``claimed_jointly[backend, claim]`` is ``JointMemory.acquire_joint(backend, claim)``."""

    def __getitem__(self, claim: tuple[JointMemory, Any]) -> Decision:
        backend, joint_claim = claim
        return JointMemory.acquire_joint(backend, joint_claim)


claimed: Final = _Claims()
claimed_jointly: Final = _JointClaims()
