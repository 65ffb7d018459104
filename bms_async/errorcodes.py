"""The meaning of the cloud's error codes, and what to do about them (API reference 6.2).

The reference lists one message and one handling measure for each code, and says itself that a code may come with other
messages and another HTTP status. So a code is a hint for the caller and for the retry logic; the message of the
response is the better evidence. Statuses and codes are the reference's, the wording is this project's.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

import msgspec

__all__ = ["ERROR_CODES", "ErrorCode", "Remedy", "explain"]


class Remedy(StrEnum):
    """The kind of remedy for a code, by which the SDK and a fleet run decide what to do."""

    ALREADY_THERE = "already_there"
    """The server is already in the requested state: it counts as unchanged."""
    IN_TRANSITION = "in_transition"
    """The server cannot take the request now: retry later, for this server only."""
    OVERLOADED = "overloaded"
    """The service or its gateway is overloaded: slow the operation down, then retry."""
    QUOTA = "quota"
    """A quota or the capacity is used up: some has to be freed or bought first."""
    PERMISSION = "permission"
    """The credentials, or the rights or balance behind them, do not cover the request."""
    NOT_FOUND = "not_found"
    """A resource that the request names does not exist."""
    PERMANENT = "permanent"
    """By the reference, the same request will fail again."""


class ErrorCode(msgspec.Struct, frozen=True):
    """One row of the table.

    Attributes:
        code: The code.
        status: The HTTP status that it is documented with.
        meaning: The meaning, in this project's words.
        measure: The measure for an operator to take.
        remedy: The kind of remedy, for programs.
    """

    code: str
    status: int
    meaning: str
    measure: str
    remedy: Remedy


_READ_IT = "Read the message that came with it; if it does not say why, ask support with the request id."
_SUPPORT = "Ask support, with the request id."
_FIX_REQUEST = "Correct what the message complains about; the same request will be refused again."
_MORE_QUOTA = "Ask for less, release what is unused, or have the quota raised."
_NO_RIGHTS = "Have the account's administrator grant the right that the message names."
_WAIT = "Wait until that has ended, then ask again."
_OTHER_DISK = "Choose another disk, or give the right server."
_SLOW_DOWN = "Send fewer calls, and wait for the window to pass before the next one."
_CREDENTIALS = "Check the key or token and the clock; failing again and again may lock the key."

# Two lines a row keep this a table; the formatter would make it seven.
# fmt: off
_BMS: tuple[tuple[str, int, str, str, Remedy], ...] = (
    ("BMS.0001", 400, "The service could not make sense of the request.",
     _FIX_REQUEST, Remedy.PERMANENT),
    ("BMS.0002", 400, "This region has no bare-metal service.",
     "Use the endpoint of a region that offers it.", Remedy.PERMANENT),
    ("BMS.0003", 400, "The request to create a server had no body.",
     _FIX_REQUEST, Remedy.PERMANENT),
    ("BMS.0004", 400, "The roles of this user do not cover the request.",
     _NO_RIGHTS, Remedy.PERMISSION),
    ("BMS.0005", 400, "The user lacks a right, or the account lacks money.",
     "Check the account's balance, then the rights of the user.", Remedy.PERMISSION),
    ("BMS.0006", 400, "The service could not set up a job for the request.",
     _READ_IT, Remedy.PERMANENT),
    ("BMS.0008", 400, "The service could not look up the flavor.",
     _READ_IT, Remedy.PERMANENT),
    ("BMS.0009", 400, "The service could not look up the flavor's extra specs.",
     _READ_IT, Remedy.PERMANENT),
    ("BMS.0010", 400, "The service could not look up the image.",
     _READ_IT, Remedy.PERMANENT),
    ("BMS.0011", 400, "The image is not made for bare-metal servers.",
     "Choose a bare-metal image; the message says what is wrong with this one.", Remedy.PERMANENT),
    ("BMS.0012", 400, "The subnet has too few free addresses.",
     "Free addresses in the subnet, or use a larger one.", Remedy.QUOTA),
    ("BMS.0013", 400, "The service could not look up the ports of the subnet.",
     _READ_IT, Remedy.PERMANENT),
    ("BMS.0014", 400, "The address asked for is taken in its subnet.",
     "Give the NIC a free address, or none and let the cloud choose.", Remedy.PERMANENT),
    ("BMS.0015", 400, "The service could not look up the NIC or its subnet.",
     _READ_IT, Remedy.PERMANENT),
    ("BMS.0017", 400, "All elastic IPs that the quota allows are in use.",
     _MORE_QUOTA, Remedy.QUOTA),
    ("BMS.0018", 400, "A parameter of the request is not valid.",
     _FIX_REQUEST, Remedy.PERMANENT),
    ("BMS.0019", 400, "A NIC or elastic IP parameter is not valid.",
     _FIX_REQUEST, Remedy.PERMANENT),
    ("BMS.0021", 400, "No server can be created with this flavor.",
     "Choose one of the flavors that the zone offers.", Remedy.PERMANENT),
    ("BMS.0022", 400, "A parameter of the request is not valid.",
     _FIX_REQUEST, Remedy.PERMANENT),
    ("BMS.0023", 400, "The service could not look up the quotas.",
     _READ_IT, Remedy.PERMANENT),
    ("BMS.0025", 400, "The quota of servers is used up.",
     _MORE_QUOTA, Remedy.QUOTA),
    ("BMS.0026", 400, "The quota of CPU cores is used up.",
     _MORE_QUOTA, Remedy.QUOTA),
    ("BMS.0027", 400, "The quota of memory is used up.",
     _MORE_QUOTA, Remedy.QUOTA),
    ("BMS.0028", 400, "The quotas of servers and CPU cores are used up.",
     _MORE_QUOTA, Remedy.QUOTA),
    ("BMS.0029", 400, "The quotas of servers and memory are used up.",
     _MORE_QUOTA, Remedy.QUOTA),
    ("BMS.0030", 400, "The quotas of memory and CPU cores are used up.",
     _MORE_QUOTA, Remedy.QUOTA),
    ("BMS.0031", 400, "The quotas of servers, CPU cores and memory are used up.",
     _MORE_QUOTA, Remedy.QUOTA),
    ("BMS.0032", 400, "The token was not accepted: the account may not be enabled for the service.",
     "Check the token, then have support enable the account.", Remedy.PERMISSION),
    ("BMS.0033", 403, "This user may not operate bare-metal servers.",
     _NO_RIGHTS, Remedy.PERMISSION),
    ("BMS.0034", 400, "Servers cannot be created by themselves in this place.",
     "Use another region or zone, or order the servers by hand.", Remedy.PERMANENT),
    ("BMS.0035", 400, "The server is being started, and takes nothing else meanwhile.",
     _WAIT, Remedy.IN_TRANSITION),
    ("BMS.0036", 400, "The server is being stopped, and takes nothing else meanwhile.",
     _WAIT, Remedy.IN_TRANSITION),
    ("BMS.0037", 400, "The server is being rebooted, and takes nothing else meanwhile.",
     _WAIT, Remedy.IN_TRANSITION),
    ("BMS.0038", 400, "The server is already running.",
     "Nothing to do: leave it out of the next start.", Remedy.ALREADY_THERE),
    ("BMS.0039", 400, "The server is already stopped.",
     "Nothing to do: leave it out of the next stop.", Remedy.ALREADY_THERE),
    ("BMS.0040", 400, "There is no such server.",
     "Check the id and the project; the server may have been deleted.", Remedy.NOT_FOUND),
    ("BMS.0047", 400, "The system disk asked for is not valid.",
     _FIX_REQUEST, Remedy.PERMANENT),
    ("BMS.0049", 400, "The service could not look up the key pair.",
     "Check that the key pair exists for this user; else read the message.", Remedy.PERMANENT),
    ("BMS.0054", 400, "The cloud has fewer free servers than were asked for.",
     "Ask for fewer, try another flavor or zone, or ask support for capacity.", Remedy.QUOTA),
    ("BMS.0055", 400, "The service could not look up the capacity or the quota.",
     _READ_IT, Remedy.PERMANENT),
    ("BMS.0071", 400, "The request both names an elastic IP and asks for a new one.",
     "Do one or the other.", Remedy.PERMANENT),
    ("BMS.0072", 400, "One elastic IP was named for several servers.",
     "Name it for one server only, or ask for new ones.", Remedy.PERMANENT),
    ("BMS.0073", 400, "The elastic IP asked for has no bandwidth.",
     _FIX_REQUEST, Remedy.PERMANENT),
    ("BMS.0074", 400, "The elastic IP's extended parameters or charging mode are missing.",
     _FIX_REQUEST, Remedy.PERMANENT),
    ("BMS.0075", 400, "The elastic IP's bandwidth has no id.",
     _FIX_REQUEST, Remedy.PERMANENT),
    ("BMS.0077", 400, "The bandwidth's size is not valid.",
     _FIX_REQUEST, Remedy.PERMANENT),
    ("BMS.0078", 400, "The shared bandwidth carries as many elastic IPs as its quota allows.",
     _MORE_QUOTA, Remedy.QUOTA),
    ("BMS.0079", 400, "A bandwidth of this type cannot be had that way.",
     "Give the id of an existing bandwidth when its type is shared.", Remedy.PERMANENT),
    ("BMS.0080", 400, "The subnet is not ready for use.",
     "Check that the subnet exists and is ACTIVE.", Remedy.PERMANENT),
    ("BMS.0089", 400, "A tag has a value that the organization's tag policy forbids.",
     "Give the tag a value that the policy knows.", Remedy.PERMANENT),
    ("BMS.0102", 400, "Servers with this image cannot have disks attached.",
     "Reinstall with another image, or ask support.", Remedy.PERMANENT),
    ("BMS.0103", 400, "There is no such disk.",
     "Check the disk's id and the project it belongs to.", Remedy.NOT_FOUND),
    ("BMS.0104", 400, "The mount point belongs to the system disk.",
     "Choose another device name for the data disk.", Remedy.PERMANENT),
    ("BMS.0105", 400, "The mount point is not a valid device name.",
     "Choose a device name that the server knows.", Remedy.PERMANENT),
    ("BMS.0106", 400, "The disk and the server are in different zones.",
     _OTHER_DISK, Remedy.PERMANENT),
    ("BMS.0108", 400, "The system disk belongs to another server or image.",
     "Attach the system disk that fits the server.", Remedy.PERMANENT),
    ("BMS.0111", 400, "The request has neither password nor key pair, or both.",
     "Give exactly one way to log in.", Remedy.PERMANENT),
    ("BMS.0114", 400, "The disk is not attached to this server.",
     "List the server's disks; it may have been detached before.", Remedy.NOT_FOUND),
    ("BMS.0201", 400, "The parameters of the server to create do not fit.",
     _FIX_REQUEST, Remedy.PERMANENT),
    ("BMS.0202", 400, "The data disks are of different or unknown types.",
     "Give all data disks of the request one type.", Remedy.PERMANENT),
    ("BMS.0203", 400, "The description of a disk is not valid.",
     _FIX_REQUEST, Remedy.PERMANENT),
    ("BMS.0204", 400, "The request asks for more data disks than one server can have.",
     "Ask for no more than the message allows.", Remedy.PERMANENT),
    ("BMS.0205", 400, "The request asks for too many servers, or for none.",
     "Split it into several requests.", Remedy.PERMANENT),
    ("BMS.0206", 400, "The server's name has characters that are not allowed.",
     "Choose a name without them.", Remedy.PERMANENT),
    ("BMS.0207", 400, "A fixed address was given for a batch of servers.",
     "Leave the address out, or create the servers one by one.", Remedy.PERMANENT),
    ("BMS.0208", 400, "The service could not look up the zone.",
     _READ_IT, Remedy.PERMANENT),
    ("BMS.0210", 400, "The user data is too long.",
     "Shorten it; have the server fetch the rest when it starts.", Remedy.PERMANENT),
    ("BMS.0211", 400, "The key is missing or not valid.",
     "Name a key pair with a usable public key.", Remedy.PERMANENT),
    ("BMS.0212", 400, "The service has more to do than it can take.",
     "Wait a while, then ask again at a lower rate.", Remedy.OVERLOADED),
    ("BMS.0213", 400, "The user's role does not reach this zone.",
     _NO_RIGHTS, Remedy.PERMISSION),
    ("BMS.0214", 400, "The service got no answer about the NIC's subnet.",
     _READ_IT, Remedy.PERMANENT),
    ("BMS.0215", 400, "The order failed: no usable price came back.",
     _READ_IT, Remedy.PERMANENT),
    ("BMS.0216", 400, "The order was made but could not be submitted.",
     "Look the order up before ordering again; the message names it.", Remedy.PERMANENT),
    ("BMS.0217", 400, "The server's metadata is not valid.",
     _FIX_REQUEST, Remedy.PERMANENT),
    ("BMS.0218", 400, "The order could not be made.",
     _READ_IT, Remedy.PERMANENT),
    ("BMS.0219", 400, "The server could not be renamed.",
     _SUPPORT, Remedy.PERMANENT),
    ("BMS.0222", 400, "The NIC is the server's first one, which has to stay.",
     "Remove another NIC.", Remedy.PERMANENT),
    ("BMS.0223", 400, "The disk's device type is something other than SCSI.",
     "Use a disk of device type SCSI.", Remedy.PERMANENT),
    ("BMS.0246", 400, "The VPC does not exist, or its id is wrong.",
     "Check the VPC's id and the project it belongs to.", Remedy.NOT_FOUND),
    ("BMS.0288", 403, "A policy forbids this operation to the user.",
     _NO_RIGHTS, Remedy.PERMISSION),
    ("BMS.0290", 400, "Only a shared disk can serve several servers, and this one is not.",
     "Use a shared disk, or attach it to one server.", Remedy.PERMANENT),
    ("BMS.0297", 400, "The disk is locked: its order is not paid.",
     "Pay or cancel the disk's order first.", Remedy.PERMANENT),
    ("BMS.0315", 400, "Servers of this flavor take no such disk.",
     "Use a flavor that supports the disk, or local disks.", Remedy.PERMANENT),
    ("BMS.0360", 400, "The disk is frozen, most often because of billing.",
     "Settle what froze the disk, then repeat the operation.", Remedy.PERMANENT),
    ("BMS.0395", 400, "Remote login does not work for Windows servers.",
     "Use the Windows server's own remote desktop.", Remedy.PERMANENT),
    ("BMS.1001", 400, "The server is neither running nor stopped, but on its way to something.",
     "Wait until it is ACTIVE or SHUTOFF, then ask again.", Remedy.IN_TRANSITION),
    ("BMS.1002", 400, "The server has as many data disks as it may have.",
     "Detach one first, or ask support for more.", Remedy.QUOTA),
    ("BMS.1003", 400, "The disk's status does not allow that it be attached.",
     "Check that the disk is available, or in use and shared.", Remedy.PERMANENT),
    ("BMS.1004", 400, "The server has as many shared data disks as it may have.",
     "Detach one first, or ask support for more.", Remedy.QUOTA),
    ("BMS.1006", 400, "The server's state could not be read.",
     "Ask again a little later; if it stays so, ask support.", Remedy.IN_TRANSITION),
    ("BMS.1007", 400, "The service failed to call another service.",
     _READ_IT, Remedy.PERMANENT),
    ("BMS.1008", 400, "The disk is of a type that this server cannot use.",
     _OTHER_DISK, Remedy.PERMANENT),
    ("BMS.1009", 400, "The disk is already attached to this server.",
     "Nothing to do, unless another disk was meant.", Remedy.PERMANENT),
    ("BMS.1011", 400, "The disk is just being attached by an earlier request.",
     "Let the earlier request end, and send no second one.", Remedy.PERMANENT),
    ("BMS.3001", 400, "The service could not look up a security group or the subnet's VPC.",
     _READ_IT, Remedy.PERMANENT),
    ("BMS.3004", 400, "The server was not created: the service failed inside.",
     _SUPPORT, Remedy.PERMANENT),
    ("BMS.3005", 400, "No network port could be made for the server.",
     _SUPPORT, Remedy.PERMANENT),
    ("BMS.3006", 400, "The server got no elastic IP: giving it one failed.",
     _SUPPORT, Remedy.PERMANENT),
    ("BMS.3011", 400, "The service failed inside: it found nothing in the token.",
     "Get a fresh token; if that changes nothing, ask support.", Remedy.PERMANENT),
    ("BMS.3019", 400, "The data disk was made but could not be attached.",
     _SUPPORT, Remedy.PERMANENT),
    ("BMS.3021", 400, "The data disk could not be made.",
     _SUPPORT, Remedy.PERMANENT),
    ("BMS.3025", 400, "Disks of this type cannot be created here as shared ones.",
     "Choose another disk type, or a disk that is not shared.", Remedy.PERMANENT),
    ("BMS.3026", 400, "The password is too weak for the rules.",
     "Choose a longer one with more kinds of characters.", Remedy.PERMANENT),
    ("BMS.3027", 400, "A VPC parameter is not valid.",
     _FIX_REQUEST, Remedy.PERMANENT),
    ("BMS.3028", 400, "The check of the disk quota failed.",
     "Compare the disks asked for with the disk quota, and have it raised.", Remedy.QUOTA),
    ("BMS.3029", 400, "The system disk ended in a bad status while it was made.",
     _SUPPORT, Remedy.PERMANENT),
    ("BMS.3033", 400, "The system disk could not be made.",
     _SUPPORT, Remedy.PERMANENT),
    ("BMS.3035", 400, "The disk was made for another server than the request names.",
     _OTHER_DISK, Remedy.PERMANENT),
    ("BMS.3037", 400, "No machine was free, or the server did not start.",
     "Ask support which; for a new server, try another flavor or zone.", Remedy.QUOTA),
    ("BMS.3038", 400, "The server got no elastic IP: giving it one failed.",
     _SUPPORT, Remedy.PERMANENT),
    ("BMS.3039", 400, "The password does not keep the rules; the message says which.",
     "Choose one that keeps the documented rules.", Remedy.PERMANENT),
    ("Common.0018", 400, "The token is for another project than the URL.",
     "Get a token for this project, or use the token's own project id.", Remedy.PERMISSION),
)

# Not in chapter 6.2: these come from the gateway in front of the service, each under one of two names.
_GATEWAY: tuple[tuple[str, int, str, str, Remedy], ...] = (
    ("APIGW.0301", 401, "The gateway did not accept the credentials.",
     _CREDENTIALS, Remedy.PERMISSION),
    ("APIG.0301", 401, "The gateway did not accept the credentials.",
     _CREDENTIALS, Remedy.PERMISSION),
    ("APIGW.0308", 429, "More calls came than the gateway lets through.",
     _SLOW_DOWN, Remedy.OVERLOADED),
    ("APIG.0308", 429, "More calls came than the gateway lets through.",
     _SLOW_DOWN, Remedy.OVERLOADED),
)
# fmt: on

ERROR_CODES: Mapping[str, ErrorCode] = MappingProxyType({row[0]: ErrorCode(*row) for row in (*_BMS, *_GATEWAY)})
"""All codes of the reference and the four of the gateway, by code."""


def explain(code: str | None) -> ErrorCode | None:
    """Look a code up.

    Args:
        code: The code of a response or a job, None if it has none.

    Returns:
        Its row of the table; None if there is no code or it is not documented.
    """
    return None if code is None else ERROR_CODES.get(code.strip())
