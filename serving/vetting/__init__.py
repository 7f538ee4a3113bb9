"""What a version must be before it is loaded: made of operations that are allowed, unchanged, and signed.

`vetting.py` is called by the loader; each of the others knows one reason to refuse.
"""
