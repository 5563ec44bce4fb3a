"""What a server answers when it cannot do what was asked, in the shape of OpenAI's API."""

from __future__ import annotations

from typing import Any

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "request_too_large",
    415: "invalid_request_error",
    421: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "overloaded_error",
}


class HttpError(Exception):
    """A request that is answered with an error.

    Args:
        status: The HTTP status code.
        message: What is wrong and what to do, for a person.
        code: What is wrong, for a program.
        param: The field of the request that is wrong.
        headers: Further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = headers or {}

    def body(self) -> dict[str, Any]:
        """Returns the answer's JSON object."""
        kind = TYPES.get(self.status, "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def invalid(
    message: str, param: str | None = None, *, code: str = "invalid_value", status: int = 400
) -> HttpError:
    """Returns the error of a field that cannot be used."""
    return HttpError(status, message, code=code, param=param)
