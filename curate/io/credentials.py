"""Credentials in URLs: manifests, reports and events would show them to whoever reads those."""

from __future__ import annotations

import re
from collections.abc import Iterable

from curate.errors import UsageError

CREDENTIALS = (
    "credentials are no part of a recipe, for a manifest would show them; file systems take them from the environment "
    "by themselves"
)
_WEB = ("http", "https")  # a user without a password is a token there
_PLACES = ("abfs", "abfss", "wasb", "wasbs")  # what stands before their @ is a container
_PORT = re.compile(r"(?:\[[^\]]*\]|[^:\[]*)(?::[0-9]*)?")
_KEYS = ("key", "sig", "sas", "pwd", "pass", "pat", "auth", "authorization", "accesskeyid", "awsaccesskeyid")
_ENDINGS = (
    "token", "signature", "password", "passwd", "secret", "credential", "credentials",
    "apikey", "accesskey", "secretkey", "accountkey", "privatekey", "signingkey", "subscriptionkey",
)  # fmt: skip


def refuse_credentials(paths: Iterable[str], option: str) -> None:
    """Refuse URLs that let in whoever reads them; the message does not show them.

    Raises
    ------
    UsageError : there is a password in one, or a signature.
    """
    for path in paths:
        if found := credentials_in(path):
            raise UsageError(f"{option}: {found}: {CREDENTIALS}")


def credentials_in(text: str) -> str:
    """What of a URL lets in whoever reads it, in words; empty when nothing does, or it is no URL."""
    scheme, *rests = text.split("://")
    for rest in rests:  # of a chain such as simplecache::s3://bucket there may be several
        name = scheme.rsplit(":", 1)[-1].lower()
        user = _user_in(rest)
        if user is not None and (":" in user or name in _WEB):
            return "a URL with a password" if ":" in user else "a URL with a user or token"
        scheme = rest
    if rests and any(map(_is_secret, re.findall(r"[?&;#]([^?&;#=]*)=", text))):
        return "a URL with a signature or token"
    return ""


def without_credentials(url: str) -> str:
    """A URL without user and query, where these hold credentials; a user that is none goes too."""
    scheme, separator, rest = url.partition("://")
    user = _user_in(rest)
    if user is not None and (":" in user or scheme.lower() not in _PLACES):
        rest = rest[len(user) + 1 :]
    found = f"{scheme}{separator}{rest}"
    return re.split(r"[?#;]", found)[0] if credentials_in(found) else found


def _user_in(rest: str) -> str | None:
    """What stands before the host of a URL, whose ``rest`` follows on ``://``; a secret may hold slashes and @."""
    host, _, path = rest.partition("/")
    if "@" in host:
        return host.rpartition("@")[0]
    if "@" in path and not _PORT.fullmatch(host) and not host.startswith("arn:"):
        return rest.partition("@")[0]
    return None


def _is_secret(key: str) -> bool:
    name = re.sub("[^a-z0-9]", "", key.lower())
    return name in _KEYS or name.endswith(_ENDINGS)
