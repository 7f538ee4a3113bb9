"""Who may do what: callers, their rights and their limits, for both transports at one door.

`door.py` is that door. `grpc/door.py` and `rest/door.py` bring requests to it before their content is read; without one
of its flags there is no door, and nobody is asked.
"""
