"""A safe client around alpaca-trade-api, and the only module that imports it.

By default the SDK waits forever for a silent server, sends an order again after a 504 although it may have been
accepted, and prefers a token from the environment to the keys that it is given.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

import requests
from requests.adapters import HTTPAdapter
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_before_delay,
    wait_exponential_jitter,
)

from trader.logs import one_line
from trader.model import BrokerError

LOG = logging.getLogger(__name__)

type JsonValue = object
"""A decoded JSON value that has not been checked yet."""

type Parameters = Mapping[str, object]
"""The query of a read, or the body of a write."""

type Credentials = Callable[[bool], tuple[str, str]]
"""A function that returns Alpaca's key id and secret; its argument is True if Alpaca refused the previous pair."""


class AlpacaError(BrokerError):
    """A call to Alpaca failed; the message names the call and the reason."""


class RefusedError(AlpacaError):
    """Alpaca refused the request (a 4xx status), so nothing was done. `code` is Alpaca's error code, or 0 if none."""

    def __init__(self, message: str, status: int, code: int) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class NoAnswerError(AlpacaError):
    """The answer is lost or unusable (5xx, timeout, no connection, not JSON); the request may have taken effect."""


class CredentialsError(AlpacaError):
    """Alpaca refused the keys, even freshly fetched ones, so nothing was done."""


class AlpacaClient:
    """GET, POST and DELETE on Alpaca's trading API, and GET on its data API.

    `base_url` and `data_url` come without the /v2 that the SDK adds, and without a slash at the end.

    `timeout_s` limits an attempt: the seconds to connect, and the seconds without data. (An answer that arrives in
    small pieces may take longer.) A request that is safe to repeat is sent up to `attempts` times, with waits that grow
    from `wait_s` plus jitter; no attempt begins after `deadline_s`. Reads and deletions are safe to repeat, and so is a
    POST after a 429, which means that it was not accepted. Refused credentials are fetched again once, and once more
    only after they have worked.
    """

    def __init__(
        self,
        base_url: str,
        data_url: str,
        credentials: Credentials,
        timeout_s: tuple[float, float] = (3.05, 10.0),
        *,
        attempts: int = 4,
        wait_s: float = 0.5,
        deadline_s: float = 15.0,
    ) -> None:
        """Store the arguments. The first call imports the SDK and sends the first request."""
        self._base_url = base_url
        self._data_url = data_url
        self._credentials = credentials
        self._timeout_s = timeout_s
        self._retrying = Retrying(
            stop=stop_after_attempt(attempts) | stop_before_delay(deadline_s),
            wait=wait_exponential_jitter(multiplier=wait_s, jitter=wait_s),
            before_sleep=_log_retry,
            reraise=True,
        )
        self._apis: dict[str, _Rest] = {}
        self._refreshed = False

    def get(self, path: str, parameters: Parameters | None = None) -> JsonValue:
        """Return the trading API's answer to a read; `path` is like "/account"."""
        return self._call(self._base_url, "GET", path, parameters, _is_passing)

    def get_data(self, path: str, parameters: Parameters | None = None) -> JsonValue:
        """Return the data API's answer to a read; `path` is like "/stocks/bars"."""
        return self._call(self._data_url, "GET", path, parameters, _is_passing)

    def post(self, path: str, body: Parameters) -> JsonValue:
        """Return the trading API's answer to a write; it is sent again only if it was certainly not accepted."""
        return self._call(self._base_url, "POST", path, body, _is_too_many_requests)

    def delete(self, path: str) -> JsonValue:
        """Return the trading API's answer to a deletion; a repeated deletion is refused with 404 or 422."""
        return self._call(self._base_url, "DELETE", path, None, _is_passing)

    def _call(
        self, url: str, method: str, path: str, data: Parameters | None, again: Callable[[BaseException], bool]
    ) -> JsonValue:
        return self._retrying.copy(retry=retry_if_exception(again))(self._send_authorized, url, method, path, data)

    def _send_authorized(self, url: str, method: str, path: str, data: Parameters | None) -> JsonValue:
        try:
            answer = self._once(url, method, path, data)
        except CredentialsError:
            if self._refreshed:
                raise
            self._refreshed = True
            self._connect(refresh=True)
            answer = self._once(url, method, path, data)
        self._refreshed = False
        return answer

    def _once(self, url: str, method: str, path: str, data: Parameters | None) -> JsonValue:
        from alpaca_trade_api.rest import APIError  # costs nothing extra: _connect imports the SDK anyway

        if not self._apis:
            self._connect(refresh=False)
        call = f"{method} {path}"
        send = getattr(self._apis[url], method.lower())
        try:
            answer: JsonValue = send(path, dict(data or {}))
        except (APIError, requests.HTTPError) as error:
            raise _refusal(call, error) from error
        except requests.RequestException as error:
            raise NoAnswerError(
                f"Alpaca: {call}: no usable answer ({type(error).__name__}: {one_line(error)})"
            ) from error
        except TypeError as error:  # the SDK raises it for an error whose body is `null` or a number
            raise NoAnswerError(f"Alpaca: {call}: an error without a message ({error})") from error
        if answer is None and method == "GET":
            raise NoAnswerError(f"Alpaca: {call}: an empty answer (no body or null)")
        return answer

    def _connect(self, *, refresh: bool) -> None:
        key_id, secret = self._credentials(refresh)
        _check_credential("ALPACAUSER", key_id)
        _check_credential("ALPACAPW", secret)
        urls = {self._base_url, self._data_url}
        self._apis = {url: _rest(url, key_id, secret, self._timeout_s) for url in urls}


class _Rest(Protocol):
    """The methods of the SDK's REST class that the client uses."""

    def get(self, path: str, data: dict[str, object]) -> JsonValue: ...
    def post(self, path: str, data: dict[str, object]) -> JsonValue: ...
    def delete(self, path: str, data: dict[str, object]) -> JsonValue: ...


class _Deadline(HTTPAdapter):
    """An adapter that sets a timeout on every request; the SDK has no option for it."""

    def __init__(self, timeout_s: tuple[float, float]) -> None:
        super().__init__(max_retries=0)
        self._timeout_s = timeout_s

    def send(  # type: ignore[override]  # the other parameters are passed on unchanged
        self, request: requests.PreparedRequest, **options: object
    ) -> requests.Response:
        options["timeout"] = self._timeout_s
        return super().send(request, **options)  # type: ignore[arg-type]  # as above


def _rest(url: str, key_id: str, secret: str, timeout_s: tuple[float, float]) -> _Rest:
    # Imported here because it takes a tenth of a second, and only runs that use Alpaca need it.
    from alpaca_trade_api.rest import REST

    rest = REST(key_id, secret, url, api_version="v2")
    rest._oauth = None  # otherwise APCA_API_OAUTH_TOKEN in the environment would replace the keys
    rest._retry = 0  # the SDK's own retries treat reads and orders alike
    for scheme in ("http://", "https://"):
        rest._session.mount(scheme, _Deadline(timeout_s))
    api: _Rest = rest
    return api


def _check_credential(name: str, value: str) -> None:
    """Reject a value that an HTTP header cannot carry, because the HTTP library's own error would show the value."""
    if not value or not value.isascii() or not value.isprintable() or " " in value:
        raise CredentialsError(
            f"{name} is {'empty' if not value else 'not a key'}: only printable ASCII characters are allowed, without "
            "spaces or line breaks; copy it again from Alpaca's dashboard"
        )


def _refusal(call: str, error: Exception) -> AlpacaError:
    """Return the error for an answer with an error status; `error` is the SDK's APIError or a requests.HTTPError."""
    response: requests.Response = error.response  # type: ignore[attr-defined]  # both have one
    status = response.status_code
    told = getattr(error, "code", None)  # only an APIError has one, and it may equal the status
    code = told if isinstance(told, int) and told != status else 0
    said = f"Alpaca: {call}: answered {status}, {one_line(error)}" + (f" (code {code})" if code else "")
    if status >= 500 or status == requests.codes.request_timeout:
        return NoAnswerError(said)
    if status == 401 or (status == 403 and (not code or code in _KEYS_REFUSED_CODES)):
        return CredentialsError(
            f"{said}: the keys in ALPACAUSER and ALPACAPW were refused; check that they belong together, are not "
            "revoked, and are for the account (paper or live) that APCA_API_BASE_URL or MODE selects"
        )
    return RefusedError(said, status, code)


_KEYS_REFUSED_CODES = range(40110000, 40120000)
"""The codes of a 403 that concerns the keys; so does a 403 without a code. With any other code the request itself was
refused, such as an order beyond the buying power or for an asset that is not tradable."""


def _is_too_many_requests(error: BaseException) -> bool:
    return isinstance(error, RefusedError) and error.status == requests.codes.too_many_requests


def _is_passing(error: BaseException) -> bool:
    return isinstance(error, NoAnswerError) or _is_too_many_requests(error)


def _log_retry(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    wait_s = state.upcoming_sleep
    LOG.warning("%s; trying again", error, extra={"attempt": state.attempt_number, "wait_s": round(wait_s, 3)})
