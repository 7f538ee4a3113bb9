"""What a call does, written once without I/O, for the blocking client and the asynchronous one."""
