"""Refusals of the OpenAI API."""

import httpx2


def refused(answer: httpx2.Response, status: int, code: str | None, param: str | None) -> str:
    """The message of a refusal, which has the four keys, a request id and nothing else."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"].startswith("req_")
    error = answer.json()["error"]
    assert list(answer.json()) == ["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["code"], error["param"]) == (code, param), error
    assert error["type"] == ("server_error" if status >= 500 else "invalid_request_error")
    return str(error["message"])
