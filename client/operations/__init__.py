"""What a call does, written once without I/O for the blocking client and the asynchronous one.

An operation is a generator that talks to nobody. It yields what it wants done (an effect: calls to make, a pause, work
to do), is sent what came of it, and returns the operation's result. `blocking.py` and `aio.py` differ only in how they
perform an effect. So requests, checks, splitting, polling and all decisions about errors are here, and a test can drive
them without a server. The pattern is known as sans-I/O: https://sans-io.readthedocs.io/
"""

from .inference import Operations

__all__ = ["Operations"]
