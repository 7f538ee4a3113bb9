"""What asking callers for keys or tokens costs, and traces: throughput of servers with and without, in one run.

    python -m benchmarks.access
    python -m benchmarks.access --turns 2 --requests 50     whether it works; its figures say nothing

Six servers, as benchmarks/side_by_side.py has them: one that asks for nothing, one that asks for keys, one for tokens
(with PyJWT), one that traces 1 % of requests (with OpenTelemetry), one that does all three, and a second one that asks
for nothing, which shows what is noise. Ratios are to the first one.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from .side_by_side import ROOT, Contender, measure, ratios, table
from .tracing import collector_process, environment_of

LEAST = 0.95  # of the throughput without
NOTHING = "nothing"
ISSUER, AUDIENCE = "https://issuer.test/", "models"


def contenders(folder: Path, endpoint: str | None) -> list[Contender]:
    """The servers, with their files in `folder`.

    Args:
        folder: an empty one.
        endpoint: a collector's; None without OpenTelemetry, and then nothing is traced.
    """
    command = [sys.executable, "-m", "serving", "keys", "new", "alice", "--file", str(folder / "keys.txt")]
    key = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    found = [Contender(NOTHING, (), ""), Contender("keys", (f"--api_keys_file={folder / 'keys.txt'}",), key)]
    with contextlib.suppress(ImportError):
        found.append(_of_tokens(folder))
    traced: Mapping[str, str] = environment_of(endpoint, "0.01") if endpoint else {}
    if traced:
        found.append(Contender("traces of 1 %", (), "", traced))
    flags = tuple(flag for contender in found for flag in contender.flags)
    last = [contender.credential for contender in found if contender.credential][-1]  # a token, where there are some
    found.append(Contender("all of it", flags, last, traced))
    return [*found, Contender("nothing, again", (), "")]


def _of_tokens(folder: Path) -> Contender:
    import jwt
    from cryptography.hazmat.primitives.asymmetric import rsa

    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    entry = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(private.public_key()))
    (folder / "jwks.json").write_text(json.dumps({"keys": [{**entry, "kid": "1"}]}))
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": time.time() + 3600}
    token = jwt.encode(claims, private, algorithm="RS256", headers={"kid": "1"})
    flags = (f"--jwt_jwks={folder / 'jwks.json'}", f"--jwt_issuer={ISSUER}", f"--jwt_audience={AUDIENCE}")
    return Contender("tokens", flags, token)


def main() -> int:
    """Command line; prints the table. Returns 1 if a ratio is below the floor."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=20, help="turns of each server (%(default)s)")
    parser.add_argument("--requests", type=int, default=500, help="requests in each turn (%(default)s)")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    has_traces = importlib.util.find_spec("opentelemetry") is not None
    with collector_process() if has_traces else contextlib.nullcontext() as endpoint:
        figures = measure(lambda folder: contenders(folder, endpoint), arguments.turns, arguments.requests)
    print(table(figures, what="asks for", base_name=NOTHING))
    costs = [max(ratios(mine, by_name[NOTHING])) for by_name in figures.values() for mine in by_name.values()]
    return 0 if min(costs) >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
