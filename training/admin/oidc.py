"""Sign-in by an OpenID Connect provider: authorisation code with PKCE (OpenID Connect Core §3.1).

The provider says who somebody is and which groups he is in; the settings say what those may do.
Nothing of what it sends is believed before its signature, issuer, audience, time and nonce are.
"""

import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from dicom_node.settings import Oidc, Role
from training.admin.accounts import Login

_DISCOVERY: Final = "/.well-known/openid-configuration"
_ALGORITHMS: Final = ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]
_SCOPE: Final = "openid profile"
_TIMEOUT: Final = 10.0  # seconds
_LEEWAY: Final = 60  # seconds that clocks may differ
_LONGEST_NAME: Final = 64


class Refused(RuntimeError):
    """The provider does not vouch for somebody, or cannot be asked; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody whom the provider vouches for."""

    subject: str
    """Issuer and subject: who it is, whatever his name becomes."""
    name: str
    roles: frozenset[Role]


@dataclass(frozen=True, slots=True)
class Provider:
    """The provider of the settings.

    Parameters
    ----------
    clock
        UTC, seconds since the epoch.
    """

    settings: Oidc
    clock: Callable[[], float]

    def address(self, redirect: str, state: str, login: Login) -> str:
        """Return where a browser goes to sign in. Raises Refused."""
        with self._http() as http:
            place = self._document(http)["authorization_endpoint"]
        return str(
            prepare_grant_uri(
                place,
                self.settings.client_id,
                "code",
                redirect_uri=redirect,
                scope=_SCOPE,
                state=state,
                nonce=login.nonce,
                code_challenge=create_s256_code_challenge(login.verifier),
                code_challenge_method="S256",
            )
        )

    def person(self, redirect: str, code: str, login: Login) -> Person:
        """Return whom the provider vouches for, after it was asked with the code. Raises Refused.

        Parameters
        ----------
        redirect
            The address that the browser came back to.
        code
            What it brought.
        login
            What was agreed before it went.
        """
        try:
            with self._http() as http:
                document = self._document(http)
                token = self._token(http, document["token_endpoint"], redirect, code, login)
                keys = _json(http.get(document["jwks_uri"]))
            claims = self._claims(token, keys, login)
        except (httpx.HTTPError, JoseError, ValueError, KeyError, TypeError) as error:
            why = type(error).__name__
            raise Refused(f"The provider's answer does not hold ({why}).") from None
        return self._described(claims)

    def _token(self, http: httpx.Client, place: str, redirect: str, code: str, login: Login) -> str:
        """Return the ID token that a code is exchanged for (RFC 6749 §4.1.3, RFC 7636 §4.5)."""
        secret = self._secret()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect,
            "code_verifier": login.verifier,
            "client_id": self.settings.client_id,
        }
        auth = httpx.BasicAuth(self.settings.client_id, secret or "")
        shown = auth if secret else httpx.USE_CLIENT_DEFAULT
        return str(_json(http.post(place, data=form, auth=shown))["id_token"])

    def _claims(self, token: str, keys: Any, login: Login) -> Mapping[str, Any]:
        """Return what a token says, after everything that makes it one was checked (§3.1.3.7)."""
        found = jwt.decode(token, KeySet.import_key_set(keys), algorithms=_ALGORITHMS)
        registry = jwt.JWTClaimsRegistry(
            now=int(self.clock()),
            leeway=_LEEWAY,
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": self.settings.client_id},
            sub={"essential": True},
            exp={"essential": True},
            nonce={"essential": True, "value": login.nonce},
        )
        registry.validate(found.claims)
        return found.claims

    def _described(self, claims: Mapping[str, Any]) -> Person:
        name = str(claims.get(self.settings.name_claim) or claims["sub"])
        shown = "".join(letter for letter in name if letter.isprintable())[:_LONGEST_NAME]
        return Person(
            subject=f"{self._issuer} {claims['sub']}"[:512],
            name=shown,
            roles=frozenset(self._roles(claims.get(self.settings.roles_claim))),
        )

    def _roles(self, stated: Any) -> Iterable[Role]:
        groups = stated if isinstance(stated, list) else str(stated or "").split()
        for group in groups:
            yield from self.settings.roles.get(str(group), ())

    @property
    def _issuer(self) -> str:
        return self.settings.issuer.rstrip("/")

    def _document(self, http: httpx.Client) -> Mapping[str, str]:
        """Return where the provider's doors are (OpenID Connect Discovery §4)."""
        try:
            document = _json(http.get(self._issuer + _DISCOVERY))
            found = {name: str(document[name]) for name in _DOORS}
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            raise Refused(f"The provider does not answer at {self._issuer}.") from None
        if found["issuer"].rstrip("/") != self._issuer:
            raise Refused("The provider says that it is another one.")
        return found

    def _http(self) -> httpx.Client:
        try:
            context = ssl.create_default_context(cafile=self.settings.trusted_certificates)
        except OSError:
            raise Refused("The provider's trusted_certificates cannot be read.") from None
        return httpx.Client(verify=context, timeout=_TIMEOUT, trust_env=False)

    def _secret(self) -> str | None:
        if self.settings.client_secret_file is None:
            return None
        try:
            return self.settings.client_secret_file.read_text().strip()
        except OSError:
            raise Refused("The secret for the provider cannot be read.") from None


def _json(answer: httpx.Response) -> Any:
    answer.raise_for_status()
    return answer.json()


_DOORS: Final = ("issuer", "authorization_endpoint", "token_endpoint", "jwks_uri")
