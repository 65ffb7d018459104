"""Secrets that cannot be shown, and the masking of what is told.

Rule R5: no secret appears in a repr, a log line, an exception, a store or a URL; and no data is changed for that.

How: a secret is a `Secret` while it is kept, and a `SecretStr` or `SecretBytes` on its way to the socket. Both are text
and bytes like any other, except for their repr. So a debugger and an error reporter may look at every frame and find no
secret there. What the cloud says is masked where it is told, in an error, a log line or an event, and nowhere else.

Rejected: clearing the frames of every error, which blinds debuggers and depends on the bytecode of one Python version;
and masking response bodies before they are decoded, which changes names, ids and statuses.
"""

from .masked_str import MaskedStr, mask_when_shown, redact_safely, shown_text
from .masking import MASK, mask
from .secret import Secret, SecretBytes, SecretStr
from .wrapping import Unencodable, encode_secretly, kind_of, wrap_address, wrap_secrets, write_secret

__all__ = [
    "MASK",
    "MaskedStr",
    "Secret",
    "SecretBytes",
    "SecretStr",
    "Unencodable",
    "encode_secretly",
    "kind_of",
    "mask",
    "mask_when_shown",
    "redact_safely",
    "shown_text",
    "wrap_address",
    "wrap_secrets",
    "write_secret",
]
