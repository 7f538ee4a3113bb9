"""An issuer of tokens: keys of its own, and what it signs with them."""

import json
import time

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER, AUDIENCE = "https://issuer.test/", "models"


class Issuer:
    """Signs tokens with one key of each kind."""

    def __init__(self):
        self.keys = {
            "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
            "ES256": ec.generate_private_key(ec.SECP256R1()),
            "EdDSA": ed25519.Ed25519PrivateKey.generate(),
        }

    def jwks(self, *algorithms, name=str):
        """The document with the public keys for `algorithms`, all by default; `name` makes a `kid` of each."""
        kinds = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}
        entries = [
            {
                **json.loads(kinds[algorithm].to_jwk(self.keys[algorithm].public_key())),
                "kid": name(algorithm),
                "alg": algorithm,
            }
            for algorithm in algorithms or kinds
        ]
        return json.dumps({"keys": entries})

    def token(self, algorithm="ES256", *, key=None, kid=None, headers=None, without=(), **claims):
        """A token that is good for an hour, but for what `claims` replace and `without` leaves out."""
        now = time.time()
        content = {"iss": ISSUER, "aud": AUDIENCE, "sub": "bob", "iat": now, "exp": now + 3600} | claims
        content = {name: value for name, value in content.items() if name not in without}
        header = {"kid": kid or algorithm} | (headers or {})
        return jwt.encode(content, key or self.keys[algorithm], algorithm=algorithm, headers=header)
