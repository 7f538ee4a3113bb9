"""Tokens of an issuer: which are taken, and what is said of the others."""

import asyncio
import base64
import contextlib
import hmac
import http.server
import json
import threading
import time

import grpc
import pytest

jwt = pytest.importorskip("jwt", reason="PyJWT is not installed: pip install 'inkling-serving[jwt]'")

from inkling.serving.access import tokens  # noqa: E402
from inkling.serving.access.callers import Limits, Refusal, UnknownKey  # noqa: E402
from inkling.serving.access.door import Call, Door, Policy  # noqa: E402
from inkling.serving.access.jwks import RemoteKeys  # noqa: E402
from inkling.serving.access.rights import Right  # noqa: E402
from inkling.serving.access.tokens import Rules, Tokens, parse_jwks  # noqa: E402
from inkling.serving.access.watched import WatchedFile  # noqa: E402
from inkling.serving.errors import ServingError  # noqa: E402
from inkling.serving.monitoring.events import ServerEvents  # noqa: E402
from tests.patience import PATIENCE_S, POLL_S  # noqa: E402
from tests.serving.access.issuer import AUDIENCE, ISSUER, Issuer  # noqa: E402


@pytest.fixture(scope="module")
def issuer():
    return Issuer()


def judge(keys, **rules):
    return Tokens(Rules(ISSUER, AUDIENCE, **rules), lambda: keys)


@pytest.fixture
def judged(issuer):
    return judge(parse_jwks(issuer.jwks()))


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_good_token_names_its_subject(issuer, judged, algorithm):
    token = issuer.token(algorithm)
    assert judged.find(token).name == "bob" and not judged.find(token).is_admin


@pytest.mark.parametrize("claims", [{"scope": "read inkling.admin"}, {"scp": ["inkling.admin"]}], ids=["scope", "scp"])
def test_a_scope_makes_an_administrator_where_one_is_named(issuer, claims):
    keys, token = parse_jwks(issuer.jwks()), issuer.token(**claims)
    assert judge(keys, admin_scope="inkling.admin").find(token).is_admin
    assert not judge(keys, admin_scope="other").find(token).is_admin
    assert not judge(keys).find(token).is_admin


@pytest.mark.parametrize(
    "exp_at",
    [lambda now: 10**400, lambda now: str(int(now) + 60), lambda now: now - tokens.LEEWAY_S / 2],
    ids=["the largest", "text", "a moment ago"],
)
def test_an_expiry_may_be_any_number_that_is_not_over(issuer, judged, exp_at):
    token = issuer.token(exp=exp_at(time.time()))
    assert judged.find(token).name == judged.find(token).name == "bob"


def test_one_audience_of_several_is_enough(issuer, judged):
    assert judged.find(issuer.token(aud=["others", AUDIENCE])).name == "bob"
    with pytest.raises(Refusal, match="for another audience"):
        judged.find(issuer.token(aud=["others", AUDIENCE.upper()]))


def test_limits_are_those_of_the_rules(issuer):
    limits = Limits(5, 2)
    assert judge(parse_jwks(issuer.jwks()), limits=limits).find(issuer.token()).limits == limits


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"exp": 1}, "the token has expired"),
        ({"nbf": time.time() + 1000}, "the token is not valid yet"),
        ({"iss": "https://other.test/"}, "of another issuer"),
        ({"aud": "others"}, "for another audience"),
        ({"without": ("exp",)}, "the token has no exp; expected aud, exp, iss, sub"),
        ({"without": ("sub",)}, "the token has no sub"),
        ({"without": ("aud",)}, "the token has no aud"),
        ({"without": ("iss",)}, "the token has no iss"),
        ({"sub": ""}, "subject has not 1 to 256 characters"),
        ({"sub": "x" * 300}, "subject has not 1 to 256 characters"),
        ({"sub": "bob\n2026-01-01 INFO root let in"}, "subject has characters that cannot be printed"),
        ({"headers": {"crit": ["b64"], "b64": False}}, "neither a key of this server nor a token"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_what_is_wrong_with_a_token_is_said(issuer, judged, options, text):
    with pytest.raises(Refusal, match=text) as caught:
        judged.find(issuer.token(**options))
    assert caught.value.code is grpc.StatusCode.UNAUTHENTICATED
    assert caught.value.headers["www-authenticate"] == 'Bearer realm="models", error="invalid_token"'


def base64url(content):
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def test_a_secret_that_both_ends_know_does_not_sign(issuer, judged):
    public = issuer.jwks("RS256").encode()
    claims = issuer.token("RS256").split(".")[1]
    for algorithm in ("HS256", "none"):
        signed = f"{base64url(json.dumps({'alg': algorithm, 'kid': 'RS256'}).encode())}.{claims}"
        mac = hmac.digest(public, signed.encode(), "sha256") if algorithm == "HS256" else b""
        token = f"{signed}.{base64url(mac)}"
        with pytest.raises(Refusal, match="signed by another algorithm than its key is for"):
            judged.find(token)
    assert not parse_jwks(json.dumps({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "a"}]}))


def test_a_stranger_s_signature_is_wrong(issuer, judged):
    with pytest.raises(Refusal, match="signature is wrong"):
        judged.find(Issuer().token())


@pytest.mark.parametrize("text", ["", "a.b.c", "eyJ.eyJ.x", "x" * 9000, "ä.ö.ü", "\udc80"])
def test_what_is_no_token_is_refused_and_not_repeated(judged, text):
    with pytest.raises(Refusal) as caught:
        judged.find(text)
    assert caught.value.code is grpc.StatusCode.UNAUTHENTICATED
    assert len(text) < 4 or text not in caught.value.message


def test_a_token_without_kid_goes_by_the_only_key(issuer):
    token = jwt.encode(jwt.decode(issuer.token(), options={"verify_signature": False}), issuer.keys["ES256"], "ES256")
    assert judge(parse_jwks(issuer.jwks("ES256"))).find(token).name == "bob"
    with pytest.raises(UnknownKey):
        judge(parse_jwks(issuer.jwks())).find(token)


def test_without_keys_callers_are_told_to_try_again(issuer):
    with pytest.raises(ServingError, match="or they could not be read yet") as caught:
        judge({}).find(issuer.token())
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE


def test_a_token_is_verified_once_until_it_expires_or_the_keys_change(issuer, monkeypatch):
    verified, real = [], jwt.decode
    monkeypatch.setattr(tokens.jwt, "decode", lambda *args, **options: verified.append(1) or real(*args, **options))
    keys = [parse_jwks(issuer.jwks())]
    judged, token = Tokens(Rules(ISSUER, AUDIENCE), lambda: keys[0]), issuer.token()
    judged.find(token)
    judged.find(token)
    assert len(verified) == 1
    monkeypatch.setattr(tokens.time, "time", lambda: time.monotonic() + 1e10)
    judged.find(token)
    assert len(verified) == 2
    monkeypatch.undo()
    keys[0] = parse_jwks(Issuer().jwks())
    with pytest.raises(Refusal, match="signature is wrong"):
        judged.find(token)


@pytest.mark.parametrize("text", ["", "[]", "<html></html>", "{}", '{"keys": 3}', '{"keys": [3]}'])
def test_what_is_no_jwks_is_refused(text):
    with pytest.raises(ValueError, match="it is no JWKS"):
        parse_jwks(text)


@pytest.mark.parametrize("keys", [[], [{"kty": "RSA"}], [{"kty": "AKP", "alg": "ML-DSA-44", "kid": "new"}]])
def test_keys_that_the_issuer_takes_back_count_no_more_whatever_is_left(issuer, tmp_path, caplog, keys):
    file = tmp_path / "jwks.json"
    file.write_text(issuer.jwks())
    watched = WatchedFile(str(file), parse_jwks)
    judged, token = Tokens(Rules(ISSUER, AUDIENCE), lambda: watched.value), issuer.token()
    assert judged.find(token).name == "bob"
    file.write_text(json.dumps({"keys": keys}))
    assert watched.look() and "the JWKS has no public key for signatures" in caplog.text
    with pytest.raises(ServingError, match="issuer has no keys") as caught:
        judged.find(token)
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE


@pytest.fixture
def place():
    """A document at a URL of this machine: what is there can be set, and how often it was asked for is counted."""

    class Place(http.server.BaseHTTPRequestHandler):
        content, asked, status, hangs = "", 0, 200, False
        ended = threading.Event()

        def do_GET(self):
            Place.asked += 1
            self.send_response(Place.status)
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            while Place.hangs and not Place.ended.wait(POLL_S):  # a byte at a time
                self.wfile.write(b" ")
                self.wfile.flush()
            self.wfile.write(Place.content.encode())

        def handle(self):
            with contextlib.suppress(OSError):  # nobody waits any more
                super().handle()

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Place)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    Place.url = f"http://127.0.0.1:{server.server_port}/jwks"
    yield Place
    Place.ended.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_keys_at_a_url_are_asked_for_again_and_kept_when_they_cannot_be_had(issuer, place, caplog):
    place.content = issuer.jwks("ES256")
    keys = RemoteKeys(place.url, parse_jwks, {}, retry_s=0)
    asyncio.run(keys.refresh())
    assert keys.value.keys() == {"ES256"}
    place.content = issuer.jwks("RS256")
    asyncio.run(keys.refresh())
    assert keys.value.keys() == {"RS256"}
    for place.status, place.content in ((302, ""), (500, ""), (200, "x" * (2 << 20)), (200, "{}")):
        asyncio.run(keys.refresh())
        assert keys.value.keys() == {"RS256"}
    assert "gives no keys" in caplog.text


def test_a_url_is_asked_once_by_many_and_not_more_often_than_it_may(place, issuer):
    place.content = issuer.jwks()
    keys = RemoteKeys(place.url, parse_jwks, {})

    async def many():
        await asyncio.gather(*(keys.refresh() for _ in range(20)))
        await keys.refresh()

    asyncio.run(many())
    assert place.asked == 1


def door_of(keys, **changes):
    """A door that takes tokens by `keys`."""
    return Door(Policy(tokens=Tokens(Rules(ISSUER, AUDIENCE), lambda: keys.value)), events=ServerEvents(),
                remote_keys=keys, **changes)  # fmt: skip


def admitted(door, *tokens):
    """The names of those whom the door lets in by their tokens, one after the other."""
    call = Call(entrypoint="GRPC", api="Predict", right=Right.PREDICT)

    async def admit():
        return [(await door.admit(call, token)).name for token in tokens]

    return asyncio.run(admit())


def test_an_issuer_that_is_away_at_the_start_is_asked_again(issuer, place):
    place.status = 500
    keys = RemoteKeys(place.url, parse_jwks, {}, retry_s=0)
    with pytest.raises(ServingError, match="or they could not be read yet") as caught:
        admitted(door_of(keys), issuer.token())
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    place.status, place.content = 200, issuer.jwks()
    assert admitted(door_of(keys), issuer.token()) == ["bob"]


def test_a_token_that_names_a_newer_key_is_taken_and_the_older_one_s_no_more(issuer, place):
    place.content = issuer.jwks("ES256")
    door, newer = door_of(RemoteKeys(place.url, parse_jwks, {}, retry_s=0)), Issuer()
    assert admitted(door, issuer.token()) == ["bob"]
    place.content = newer.jwks("ES256", name=lambda _: "newer")
    assert admitted(door, newer.token(kid="newer"), newer.token(kid="newer")) == ["bob", "bob"] and place.asked == 2
    with pytest.raises(UnknownKey, match="signed by a key that its issuer does not publish"):
        admitted(door, issuer.token())
    place.status = 500  # away, later: what is known counts on
    assert admitted(door, newer.token(kid="newer")) == ["bob"]


def test_names_of_keys_that_are_made_up_do_not_ask_the_issuer_each_time(issuer, place):
    place.content = issuer.jwks()
    door = door_of(RemoteKeys(place.url, parse_jwks, {}))
    assert admitted(door, issuer.token()) == ["bob"]
    for number in range(50):
        with pytest.raises(UnknownKey):
            admitted(door, issuer.token(kid=f"made up {number}"))
    assert place.asked == 1


def test_an_issuer_that_hangs_holds_up_neither_those_who_are_known_nor_the_files(issuer, place, tmp_path):
    place.content = issuer.jwks()
    keys = RemoteKeys(place.url, parse_jwks, {}, retry_s=0, timeout_s=PATIENCE_S)
    (tmp_path / "file").write_text("a")
    file = WatchedFile(str(tmp_path / "file"), str)
    door = door_of(keys, files=(file,))
    call = Call(entrypoint="GRPC", api="Predict", right=Right.PREDICT)

    async def while_it_hangs():
        place.hangs = True
        watching = asyncio.create_task(door.watch())
        first = asyncio.create_task(door.admit(call, issuer.token()))
        (tmp_path / "file").write_text("another")
        while place.asked < 1 or file.value != "another":
            await asyncio.sleep(POLL_S)
        assert not first.done()
        place.ended.set()
        assert (await first).name == "bob"
        place.ended.clear()
        unknown = asyncio.create_task(door.admit(call, issuer.token(kid="unknown")))
        while place.asked < 2:
            await asyncio.sleep(POLL_S)
        assert (await door.admit(call, issuer.token())).name == "bob" and not unknown.done()
        place.ended.set()
        with pytest.raises(UnknownKey):
            await unknown
        watching.cancel()

    asyncio.run(asyncio.wait_for(while_it_hangs(), PATIENCE_S))


def test_a_document_that_comes_byte_by_byte_is_given_up(place, caplog):
    place.hangs = True
    keys = RemoteKeys(place.url, parse_jwks, {}, timeout_s=0.1)
    asyncio.run(keys.refresh())
    assert keys.value == {} and "gives no keys: it takes over 0.1 s" in caplog.text


def test_keys_of_kinds_that_are_not_known_leave_the_others(issuer, caplog):
    document = json.loads(issuer.jwks("ES256"))
    unknown = [{"kty": "EC", "crv": "P-999", "x": "AA", "y": "AA", "kid": "new"}, {"kty": "AKP", "alg": "ML-DSA-44"}]
    found = parse_jwks(json.dumps({"keys": [*unknown, {"kty": "RSA", "kid": "half"}, *document["keys"]]}))
    assert found.keys() == {"ES256"} and "the key 'new' of the JWKS is left out" in caplog.text


@pytest.mark.parametrize("url", ["http://issuer.test/jwks", "ftp://issuer.test/jwks", "file:///etc/passwd"])
def test_keys_do_not_come_in_the_clear(url):
    with pytest.raises(ServingError, match="expected a file or an https URL"):
        RemoteKeys(url, parse_jwks, {})
