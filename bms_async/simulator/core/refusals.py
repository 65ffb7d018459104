"""The refusals of the cloud and of the gateway in front of it."""

from typing import Final, Literal

import msgspec

__all__ = ["Refusal", "bad_request", "native", "no_such_api", "not_this_token", "parameter", "throttled"]

_JSON: Final = msgspec.json.Encoder()

_NATIVE_NAMES: Final = {
    400: "badRequest",
    403: "forbidden",
    404: "itemNotFound",
    406: "notAcceptable",
    409: "conflictingRequest",
}


Shape = Literal["bms", "gateway", "nova", "keystone"]


class Refusal(Exception):  # noqa: N818 - a response of the cloud, not an error of the simulator
    """An error response.

    Attributes:
        status: The HTTP status.
        code: The error code, such as `BMS.0018`.
        message: The error message.
        shape: The format of the body: the service's, the gateway's, Nova's or Keystone's.
    """

    def __init__(self, status: int, code: str, message: str, shape: Shape = "bms") -> None:
        self.status = status
        self.code = code
        self.message = message
        self.shape = shape
        super().__init__(f"{status} {code}: {message}")

    def body(self, request_id: str) -> bytes:
        """Return the body (API reference 6.3.1 for the service's, 3.3 for the gateway's)."""
        if self.shape == "bms":
            return _JSON.encode({"error": {"message": self.message, "code": self.code}})
        if self.shape == "nova":
            return _JSON.encode({self.code: {"message": self.message, "code": self.status}})
        if self.shape == "keystone":
            return _JSON.encode({"error": {"message": self.message, "code": self.status, "title": self.code}})
        return _JSON.encode({"error_msg": self.message, "error_code": self.code, "request_id": request_id})


def parameter(why: str) -> Refusal:
    """Return the service's refusal of an invalid parameter."""
    return Refusal(400, "BMS.0018", f"A parameter cannot be used: {why}")


def native(status: int, message: str) -> Refusal:
    """Return a native refusal, under Nova's key for its status (API reference 5.10.5)."""
    return Refusal(status, _NATIVE_NAMES[status], message, "nova")


def bad_request(message: str) -> Refusal:
    """Return the native refusal of an invalid body or parameter."""
    return native(400, message)


def throttled(limit: int) -> Refusal:
    """Return the gateway's refusal of a call above the limit. Clients parse the figure in the text."""
    return Refusal(
        429,
        "APIGW.0308",
        f"The throttling threshold has been reached: policy user over ratelimit,limit:{limit},time:1 minute",
        "gateway",
    )


def not_this_token() -> Refusal:
    """Return the gateway's refusal of missing or wrong credentials."""
    return Refusal(401, "APIGW.0301", "The call carries no valid credentials.", "gateway")


def no_such_api(status: int, method: str, path: str) -> Refusal:
    """Return the gateway's refusal of an unknown call."""
    return Refusal(status, "APIGW.0101", f"Nothing is published at {method} {path}.", "gateway")
