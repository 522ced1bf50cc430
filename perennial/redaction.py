"""Redaction: an address that is shown or stored is without its credentials.

They may stand before the host, as user and password, or in the query of a signed URL (`?X-Amz-Signature=...`).
"""

import re
from typing import Annotated

from pydantic import PlainSerializer

MARK = "***"  # what stands for a credential

_USER_INFO = re.compile(r"(?<=://)[^/@\s'\"]*@")
_NAMES = "sig|token|key|secret|passw|pwd|credential|auth|accessid"  # parts of the names of parameters that hold one
_PARAMETER = re.compile(rf"([?&][^=&?#\s]*(?:{_NAMES})[^=&?#\s]*=)[^&#\s'\"<>]+", re.IGNORECASE)


def without_credentials(text: str) -> str:
    """The text with `***` for the credentials of every URL in it: user and password, and signatures and keys of the query."""
    return _PARAMETER.sub(rf"\1{MARK}", _USER_INFO.sub(f"{MARK}@", text))


StoredAddress = Annotated[str, PlainSerializer(without_credentials)]
"""A field with an address, or a path that may be one: whole in memory, without its credentials wherever it is written."""
