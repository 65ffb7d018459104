"""Secrets that do not show themselves, and the masking of texts that are shown.

Rule R5: no secret appears in a repr, a log line, an exception, a store or a URL; and no data is changed for that.

How: a secret is a `Secret` while it is kept, and a `SecretStr` or `SecretBytes` on its way to the socket. These two are
an ordinary str and bytes except for their repr, so a debugger or an error reporter that shows every frame's variables
shows no secret. Any text of the cloud's may echo a secret: it is masked where it is shown (an error, a log line, an
event) and nowhere else.

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
