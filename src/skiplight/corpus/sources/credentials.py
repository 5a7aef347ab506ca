"""Refuses passwords and access tokens in addresses; each protocol's client has another place for them.

Whatever is on a command line is copied to a run's config and to logs, and is seen by all who see the run.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from skiplight.errors import DataError

_SECRET = re.compile(
    r"token|secret|passw|pwd|signature|credential|api.?key|access.?key|auth|^(sig|key|sas|jwt|code)$", re.I
)

_PLACES = {
    "http": "a line `machine HOST login NAME password ...` in ~/.netrc (or the file that NETRC names)",
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile by AWS_PROFILE",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "gcs": "GOOGLE_APPLICATION_CREDENTIALS",
    "abfs": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_SAS_TOKEN",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_SAS_TOKEN",
    "hf": "HF_TOKEN, or `hf auth login`",
}


def refuse_secrets(url: str) -> None:
    """Refuse an address with a user's name, a password or an access token.

    Raises:
        DataError: the address has one. The message does not repeat it, but names where the client looks for it.

    >>> refuse_secrets("https://ann:1234@example.org/a.txt?version=2")
    Traceback (most recent call last):
    skiplight.errors.DataError: data.path=https://***@example.org/a.txt?version=2 holds a password or token, ...
    """
    shown, found = [], None
    for part in url.split("::"):  # as in zip://a.txt::https://...
        try:
            pieces = urlsplit(part)
        except ValueError:
            raise DataError("data.path: this address cannot be read; check its brackets and its host") from None
        _, at, host = pieces.netloc.rpartition("@")
        query, fragment = (_masked(text) for text in (pieces.query, pieces.fragment))
        if at or (query, fragment) != (pieces.query, pieces.fragment):
            found = pieces.scheme
        shown.append(urlunsplit(pieces._replace(netloc=f"***@{host}" if at else host, query=query, fragment=fragment)))
    if found is not None:
        place = _PLACES.get("http" if found == "https" else found, "the environment, where its client looks for them")
        raise DataError(
            f"data.path={'::'.join(shown)} holds a password or token, which would be kept in the run's folder and be "
            f"sent to its logger: give the address without, and them by {place}"
        )


def _masked(query: str) -> str:
    """Return a query with the values that may be secret hidden."""
    names = {name for name, _ in parse_qsl(query, keep_blank_values=True) if _SECRET.search(name)}
    if not names:
        return query
    pairs = (pair.partition("=") for pair in re.split("[&;]", query))
    return "&".join(f"{name}=***" if _SECRET.search(name) else f"{name}={value}" for name, _, value in pairs)
