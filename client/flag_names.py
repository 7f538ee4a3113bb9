"""What the command line says in place of the library's keywords: an error's advice must be one that can be followed."""

import re

# In order: the longer ones first. What no flag can change is left out.
_IN_FLAGS = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r"a client certificate in tls=TLS\(\.\.\.\)", "a client certificate in --tls-cert and --tls-key"),
        (r"tls=TLS\(\.\.\.\) or --tls\b", "--tls"),
        (r"tls=TLS\(ca=\.\.\.\)", "--tls-ca"),
        (r"tls=TLS\((\.\.\.)?\)", "--tls"),
        (r"a valid token= or api_key=", "a valid INKLING_TOKEN or INKLING_API_KEY (--api-key-file)"),
        (r"token_over_plaintext=True", "--token-over-plaintext"),
        (r"as_is=True", "--as-is"),
        (r"raise max_message_bytes, or send smaller batches \(max_rows\)", "give it less at once"),
        (r"set max_rows to the server's limit, so that batches are split to it", "give it fewer images at once"),
        (r"(,| and) take turns, max_in_flight of them at once|, or more max_in_flight", ""),
        (r" \(split_bytes, max_rows\)", ""),
        (r"or use status\(\)", "or use `inkling status`"),
        (r"\bread\(\) takes", "`inkling read` takes"),
        (r"so call it with run\(\)", "and only the library's run() asks such a one"),
        (r"\btimeout_s\b", "--timeout"),
        (r"\bversion=(?=-?\d+; expected)", "--model-version="),
    )
)


def in_flags(text: str) -> str:
    """An error's text with the flags and commands that stand for the keywords and calls in it."""
    for pattern, words in _IN_FLAGS:
        text = pattern.sub(words, text)
    return text
