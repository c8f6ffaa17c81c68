"""Room tokens that a door must refuse. Each is a genuine one with one thing changed, so that what refuses it is the check of
that thing and no other."""

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path

from cluster import Cluster
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

Part = dict[str, object]


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(part: str) -> Part:
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def _signing_input(header: Part, claims: Part) -> str:
    return ".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))


def _signed(header: Part, claims: Part, key: Ed25519PrivateKey) -> str:
    text = _signing_input(header, claims)
    return f"{text}.{_base64url(key.sign(text.encode()))}"


def _hmac_signed(header: Part, claims: Part, secret: bytes) -> str:
    """A token for a verifier that lets the token choose the algorithm and takes its public key for the secret."""
    text = _signing_input(header | {"alg": "HS256"}, claims)
    return f"{text}.{_base64url(hmac.digest(secret, text.encode(), hashlib.sha256))}"


def forged_tokens(cluster: Cluster, room: str) -> list[tuple[str, str, str]]:
    """What is wrong, the token, and the code it must be refused with (RFC 8725 lists most of the attacks)."""
    keys: Path = cluster.state / "tokens"
    key = load_pem_private_key((keys / "private.pem").read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey), "room tokens are signed with Ed25519"
    public_pem = (keys / "public.pem").read_bytes()
    public_raw = load_pem_public_key(public_pem).public_bytes(Encoding.Raw, PublicFormat.Raw)
    stranger = Ed25519PrivateKey.generate()
    stranger_raw = stranger.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    stranger_jwk = {"kty": "OKP", "crv": "Ed25519", "x": _base64url(stranger_raw)}

    genuine = cluster.token(room, "eve")
    header, claims, signature = genuine.split(".")
    head, body = _decoded(header), _decoded(claims)
    now = int(time.time())
    without_expiry = {name: value for name, value in body.items() if name != "exp"}
    unsigned = _signing_input(head | {"alg": "none"}, body)
    someone_else = _base64url(json.dumps(body | {"sub": "ana"}).encode())
    return [
        ("token for another room", cluster.token("elsewhere", "eve"), "forbidden"),
        ("token expired", _signed(head, body | {"iat": now - 120, "exp": now - 60}, key), "token_expired"),
        ("token issued in the future", _signed(head, body | {"iat": now + 3600, "exp": now + 7200}, key), "unauthorized"),
        ("token without expiry", _signed(head, without_expiry, key), "unauthorized"),
        ("token with alg none", f"{unsigned}.", "unauthorized"),
        ("token with alg none, signature kept", f"{unsigned}.{signature}", "unauthorized"),
        ("token with alg HS256 with the public key's PEM", _hmac_signed(head, body, public_pem), "unauthorized"),
        ("token with alg HS256 with the public key's bytes", _hmac_signed(head, body, public_raw), "unauthorized"),
        ("token signed by a stranger", _signed(head, body, stranger), "unauthorized"),
        ("token that brings its own key", _signed(head | {"jwk": stranger_jwk}, body, stranger), "unauthorized"),
        ("token of an unknown key", _signed(head | {"kid": "../public"}, body, key), "unauthorized"),
        ("token of another type", _signed(head | {"typ": "JWT"}, body, key), "unauthorized"),
        ("token of another issuer", _signed(head, body | {"iss": "elsewhere"}, key), "unauthorized"),
        ("token for another audience", _signed(head, body | {"aud": "elsewhere"}, key), "unauthorized"),
        ("token with changed claims", f"{header}.{someone_else}.{signature}", "unauthorized"),
        ("token of 8 kB", _signed(head, body | {"name": "x" * 8000}, key), "unauthorized"),
        ("token that is none", "not.a.token", "unauthorized"),
    ]
