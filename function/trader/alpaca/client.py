"""alpaca-trade-api made safe: the one module that imports it.

Left to itself the SDK waits for ever for a silent server, sends an order again after a 504 (which may have been
accepted), and prefers a token from the environment to the keys it is given.
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

logger = logging.getLogger(__name__)

type Json = object
"""A decoded JSON value, of which nothing is known yet."""

type Parameters = Mapping[str, object]
"""The query of a read, or the body of a write."""

type Credentials = Callable[[bool], tuple[str, str]]
"""Gives Alpaca's key id and secret; called with True when those it gave last were refused."""


class AlpacaError(BrokerError):
    """Alpaca could not be asked; the message names the call and what happened."""


class RefusedError(AlpacaError):
    """Alpaca answered with a definite no (a 4xx status): nothing was done. `code` is Alpaca's own, 0 without one."""

    def __init__(self, message: str, status: int, code: int) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class NoAnswerError(AlpacaError):
    """The answer was lost or is of no use (5xx, time-out, broken connection, no JSON): it may have been done."""


class CredentialsError(AlpacaError):
    """Alpaca refused the keys, freshly fetched ones too: nothing was done."""


class AlpacaClient:
    """GET, POST and DELETE on Alpaca's trading API, and GET on its data API.

    `base_url` and `data_url` are without the /v2 that the SDK adds, and without a slash at the end.

    An attempt is given up after `timeout_s`: so many seconds to connect, or of silence. (An answer that arrives bit by
    bit may take longer.) What is safe to send again is sent up to `attempts` times, with waits that grow from `wait_s`
    and some jitter, and no attempt begins once `deadline_s` have passed: any read or deletion, and a POST only after a
    429, which says that it was not accepted. Refused credentials are fetched afresh once, and again only after they
    have worked in between.
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
        """Nothing is asked, and the SDK is not imported, before the first call."""
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

    def get(self, path: str, parameters: Parameters | None = None) -> Json:
        """What the trading API answers to a read; `path` as in "/account"."""
        return self._call(self._base_url, "GET", path, parameters, _is_passing)

    def get_data(self, path: str, parameters: Parameters | None = None) -> Json:
        """What the data API answers to a read; `path` as in "/stocks/bars"."""
        return self._call(self._data_url, "GET", path, parameters, _is_passing)

    def post(self, path: str, body: Parameters) -> Json:
        """What the trading API answers to a write, which is sent again only if it certainly was not accepted."""
        return self._call(self._base_url, "POST", path, body, _is_too_many_requests)

    def delete(self, path: str) -> Json:
        """What the trading API answers to a deletion; one that was done already is refused with 404 or 422."""
        return self._call(self._base_url, "DELETE", path, None, _is_passing)

    def _call(
        self, url: str, method: str, path: str, data: Parameters | None, again: Callable[[BaseException], bool]
    ) -> Json:
        return self._retrying.copy(retry=retry_if_exception(again))(self._send_authorised, url, method, path, data)

    def _send_authorised(self, url: str, method: str, path: str, data: Parameters | None) -> Json:
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

    def _once(self, url: str, method: str, path: str, data: Parameters | None) -> Json:
        from alpaca_trade_api.rest import APIError  # imported by _connect already, or about to be

        if not self._apis:
            self._connect(refresh=False)
        call = f"{method} {path}"
        send = getattr(self._apis[url], method.lower())
        try:
            answer: Json = send(path, dict(data or {}))
        except (APIError, requests.HTTPError) as error:
            raise _refusal(call, error) from error
        except requests.RequestException as error:
            raise NoAnswerError(
                f"Alpaca: {call}: no usable answer ({type(error).__name__}: {one_line(error)})"
            ) from error
        except TypeError as error:  # what the SDK makes of an error whose body is `null` or a number
            raise NoAnswerError(f"Alpaca: {call}: answered an error that says nothing ({error})") from error
        if answer is None and method == "GET":
            raise NoAnswerError(f"Alpaca: {call}: answered nothing (an empty body or null)")
        return answer

    def _connect(self, *, refresh: bool) -> None:
        key_id, secret = self._credentials(refresh)
        _check_credential("ALPACAUSER", key_id)
        _check_credential("ALPACAPW", secret)
        urls = {self._base_url, self._data_url}
        self._apis = {url: _rest(url, key_id, secret, self._timeout_s) for url in urls}


class _Rest(Protocol):
    """The part of the SDK's REST class that is used."""

    def get(self, path: str, data: dict[str, object]) -> Json: ...
    def post(self, path: str, data: dict[str, object]) -> Json: ...
    def delete(self, path: str, data: dict[str, object]) -> Json: ...


class _Deadline(HTTPAdapter):
    """Gives every request a time-out, which the SDK has no way to ask for."""

    def __init__(self, timeout_s: tuple[float, float]) -> None:
        super().__init__(max_retries=0)
        self._timeout_s = timeout_s

    def send(  # type: ignore[override]  # the parameters between are passed on as they come
        self, request: requests.PreparedRequest, **options: object
    ) -> requests.Response:
        options["timeout"] = self._timeout_s
        return super().send(request, **options)  # type: ignore[arg-type]  # as above


def _rest(url: str, key_id: str, secret: str, timeout_s: tuple[float, float]) -> _Rest:
    # Imported here because it costs a tenth of a second, which only those who trade through Alpaca should pay.
    from alpaca_trade_api.rest import REST

    rest = REST(key_id, secret, url, api_version="v2")
    rest._oauth = None  # else APCA_API_OAUTH_TOKEN in the environment would take the place of the keys
    rest._retry = 0  # its own retries know no difference between a read and an order
    for scheme in ("http://", "https://"):
        rest._session.mount(scheme, _Deadline(timeout_s))
    api: _Rest = rest
    return api


def _check_credential(name: str, value: str) -> None:
    """Refuse what no HTTP header can carry, because the error for that, further down, would show the value."""
    if not value or not value.isascii() or not value.isprintable() or " " in value:
        raise CredentialsError(
            f"{name} is {'empty' if not value else 'not a key'}: allowed are printable ASCII characters without spaces "
            "or line breaks; copy it again from Alpaca's dashboard"
        )


def _refusal(call: str, error: Exception) -> AlpacaError:
    """What an answer with an error status means; `error` is the SDK's APIError or a requests.HTTPError."""
    response: requests.Response = error.response  # type: ignore[attr-defined]  # both have one
    status = response.status_code
    told = getattr(error, "code", None)  # only an APIError has one, and it may be the status again
    code = told if isinstance(told, int) and told != status else 0
    said = f"Alpaca: {call}: answered {status}, {one_line(error)}" + (f" (code {code})" if code else "")
    if status >= 500 or status == requests.codes.request_timeout:
        return NoAnswerError(said)
    if status == 401 or (status == 403 and (not code or code in _KEYS_REFUSED_CODES)):
        return CredentialsError(
            f"{said}: the keys in ALPACAUSER and ALPACAPW were refused; check that they belong together, are not "
            "revoked, and are of the account (paper or live) that APCA_API_BASE_URL or MODE names"
        )
    return RefusedError(said, status, code)


_KEYS_REFUSED_CODES = range(40110000, 40120000)
"""A 403 with one of these, or without any, is about the keys; with another about what was asked for, such as an order
beyond the buying power or for an asset that is not tradable."""


def _is_too_many_requests(error: BaseException) -> bool:
    return isinstance(error, RefusedError) and error.status == requests.codes.too_many_requests


def _is_passing(error: BaseException) -> bool:
    return isinstance(error, NoAnswerError) or _is_too_many_requests(error)


def _log_retry(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    wait_s = state.upcoming_sleep
    logger.warning("%s; asking again", error, extra={"attempt": state.attempt_number, "wait_s": round(wait_s, 3)})
