"""Errors as plain data: to be written into a table, and read by another process, machine or version.

What is guaranteed: reading gives an error of the same class, with the same text, notes, cause and attributes, and with
the same answer to whether the cloud may have acted. No secret is written (R5): a text that echoes one is written as it
is shown, and a secret itself as ``***``. Reading never raises and runs no code that the data name: a class that this
version lacks becomes the nearest of its bases that it has, and data that make no sense become a `BmsError` that says
so.

How: a class's name, its bases, the arguments that its text is made of, and its attributes, as far as they are data. A
table says what each class cannot be without, and of which type; what may be None is not written where it is None. A
`SubJobFailedError`, of which an outage leaves a million, is written without its text, which its attributes give again.
A cause that is foreign becomes a `ForeignCodeError` whose text has its class and words: so it stays where it was in
the chain, and a note would be one more each time that the error is read and written. What lies below it is written as
foreign too, for the search for a code ends there.

Rejected: pickle, which runs what the writer of a table wants and ties the table to one version; and the constructors
of the classes, which would word each text anew, and which a class of a later version does not have here.

It is not part of `bms_async.errors`, for it has to know what is secret, and `bms_async.redaction` stands above that.
"""

from ._read import from_plain
from ._values import text_of
from ._write import to_plain

__all__ = ["from_plain", "text_of", "to_plain"]
