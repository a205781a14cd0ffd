"""A safe client around alpaca-trade-api, and the only module that imports it.

By default the SDK waits forever for a silent server, sends an order again after a 504 although it may have been
accepted, and prefers a token from the environment to the keys that it is given.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol

import requests
from requests.adapters import HTTPAdapter
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    retry_never,
    stop_after_attempt,
    stop_before_delay,
    wait_exponential_jitter,
)

from trader.alpaca.budget import NoTimeError, RequestBudget
from trader.deadline import ORDER_TIME_S
from trader.logs import one_line, redact_value
from trader.model import BrokerError

LOG = logging.getLogger(__name__)

MAX_WAIT_S = 100.0
"""The longest time that one call to the trading API waits for the request limit, also if the run never has to end.

The limit is per minute, so a longer refusal has another cause.
"""

MAX_DATA_WAIT_S = 75.0
"""The same for the data API: a minute and some seconds, because another source may be asked for the prices instead."""

END_TIME_S = 20.0
"""The time at the end of a run in which nothing is waited for: a request takes up to 13 s, and the record some more.

For the data API it is ORDER_TIME_S, because prices are useless without the time for an order.
"""

INSTALL_SDK = "pip install --no-deps alpaca-trade-api==3.2.0"
"""The command that installs the SDK without the old releases that it pins; the current ones work."""

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


class RequestLimitError(RefusedError):
    """The limit on requests leaves no room for this one within the run's time, so nothing was done.

    It was either not sent, or refused with a 429 each time; `code` is 0 if it was not sent.
    """


class NoAnswerError(AlpacaError):
    """The answer is lost or unusable (5xx, timeout, no connection, not JSON); the request may have taken effect."""


class CredentialsError(AlpacaError):
    """Alpaca refused the keys, even freshly fetched ones, so nothing was done."""


class SdkMissingError(AlpacaError):
    """Alpaca's SDK is not installed, so nothing was sent.

    The layer and a clone have it. An installed package cannot: the SDK pins old releases of what yfinance needs new
    ones of, so it takes a command of its own.
    """


class AlpacaClient:
    """GET, POST and DELETE on Alpaca's trading API, and GET on its data API.

    `base_url` and `data_url` come without the /v2 that the SDK adds, and without a slash at the end.

    `timeout_s` limits an attempt: the seconds to connect, and the seconds without data. (An answer that arrives in
    small pieces may take longer.) A request without an answer is sent up to `attempts` times if it is safe to repeat,
    as reads and deletions are, with waits that grow from `wait_s` plus jitter; no attempt begins after `deadline_s`.
    Refused credentials are fetched again once, and once more only after they have worked.

    Each API has a budget of requests. A request beyond it waits until it may be sent. A 429 means that the request was
    not carried out, so it is sent again, a POST too, after the wait that the answer asks for. No wait is begun that
    would not leave END_TIME_S of the `remaining_s` seconds until the run must end: RequestLimitError is raised instead.
    `clock` and `sleep` are those of these waits only.

    Threads may share a client: its budgets count the requests of all of them, and keys are fetched once for all.
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
        remaining_s: Callable[[], float] = lambda: math.inf,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """Store the arguments. The first call imports the SDK and sends the first request.

        Raises SdkMissingError.
        """
        if find_spec("alpaca_trade_api") is None:
            raise SdkMissingError(
                f"BROKER=alpaca and prices from Alpaca need Alpaca's SDK, which is not installed: run {INSTALL_SDK} "
                "where prophet-trader is installed (with uv or pipx: docs/how-to/install.md)"
            )
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
        self._remaining_s = remaining_s
        self._clock = clock
        self._budgets = {
            url: RequestBudget(first_pause_s=wait_s, clock=clock, sleep=sleep) for url in (base_url, data_url)
        }
        self._connecting = threading.Lock()
        self._apis: dict[str, _Rest] = {}
        self._refreshed = False

    def get(self, path: str, parameters: Parameters | None = None) -> JsonValue:
        """Return the trading API's answer to a read; `path` is like "/account"."""
        return self._call(self._trading("GET", path, parameters), is_repeatable=True)

    def get_data(self, path: str, parameters: Parameters | None = None, *, version: str = "v2") -> JsonValue:
        """Return the data API's answer to a read; `path` is like "/stocks/bars", after the `version` of the API."""
        may_wait_s = self._may_wait_s(MAX_DATA_WAIT_S, ORDER_TIME_S)
        request = _Request(self._data_url, "GET", path, parameters or {}, may_wait_s, version)
        return self._call(request, is_repeatable=True)

    def post(self, path: str, body: Parameters) -> JsonValue:
        """Return the trading API's answer to a write; it is sent again only if it was certainly not accepted."""
        return self._call(self._trading("POST", path, body), is_repeatable=False)

    def delete(self, path: str) -> JsonValue:
        """Return the trading API's answer to a deletion; a repeated deletion is refused with 404 or 422."""
        return self._call(self._trading("DELETE", path), is_repeatable=True)

    def reserve(self, count: int) -> bool:
        """Wait until `count` requests to the trading API may be sent without a pause, and return True.

        Return False if the run's time does not allow the wait, or if the limit is below `count`. Nothing is set aside:
        the next requests, whatever they are for, use up what is free.
        """
        purpose = f"{count} requests in a row"
        try:
            self._budgets[self._base_url].reserve(count, self._may_wait_s(MAX_WAIT_S, END_TIME_S), purpose)
        except NoTimeError as error:
            LOG.warning("Alpaca: %s: %s", purpose, error)
            return False
        return True

    def _trading(self, method: str, path: str, data: Parameters | None = None) -> "_Request":
        return _Request(self._base_url, method, path, data or {}, self._may_wait_s(MAX_WAIT_S, END_TIME_S))

    def _may_wait_s(self, max_wait_s: float, end_time_s: float) -> Callable[[], float]:
        """Return a function for the seconds that a call which begins now may still wait for the request limit."""
        give_up_at = self._clock() + max_wait_s
        return lambda: min(give_up_at - self._clock(), self._remaining_s() - end_time_s)

    def _call(self, request: "_Request", *, is_repeatable: bool) -> JsonValue:
        """Send a request, and again as soon as the limit allows it if the answer is a 429."""
        retry = retry_if_exception_type(NoAnswerError) if is_repeatable else retry_never
        budget = self._budgets[request.url]
        refusal: RefusedError | None = None
        while True:
            try:
                # Waiting for the limit is not part of the attempts, whose time is limited.
                budget.reserve(1, request.may_wait_s, request.call)
                return self._retrying.copy(retry=retry)(self._send_authorized, request)
            except NoTimeError as error:
                reason = refusal or f"Alpaca: {request.call}: not sent"
                code = refusal.code if refusal else 0
                raise RequestLimitError(f"{reason}; {error}", requests.codes.too_many_requests, code) from error
            except RefusedError as error:
                if error.status != requests.codes.too_many_requests:
                    raise
                refusal = error

    def _send_authorized(self, request: "_Request") -> JsonValue:
        api = self._connect(request.url)
        try:
            answer = self._once(api, request)
        except CredentialsError:
            if (renewed := self._renew(api, request.url)) is None:
                raise
            answer = self._once(renewed, request)
        self._refreshed = False
        return answer

    def _once(self, api: "_Rest", request: "_Request") -> JsonValue:
        from alpaca_trade_api.rest import APIError  # costs nothing extra: _connect imports the SDK anyway

        call = request.call
        self._budgets[request.url].take(request.may_wait_s, call)
        try:
            answer: JsonValue = redact_value(
                api._request(request.method, request.path, dict(request.data), api_version=request.version)
            )
        except (APIError, requests.HTTPError) as error:
            raise _refusal(call, error) from error
        except requests.RequestException as error:
            raise NoAnswerError(
                f"Alpaca: {call}: no usable answer ({type(error).__name__}: {one_line(error)})"
            ) from error
        except TypeError as error:  # from the SDK, while it handles an error status whose body is null or a number
            if isinstance(error.__context__, requests.HTTPError):
                raise _refusal(call, error.__context__) from error
            raise
        if answer is None and request.method == "GET":
            raise NoAnswerError(f"Alpaca: {call}: an empty answer (no body or null)")
        return answer

    def _connect(self, url: str) -> "_Rest":
        """Return the API at this address; the first call fetches the keys."""
        with self._connecting:
            if not self._apis:
                self._apis = self._fetch_apis(refresh=False)
            return self._apis[url]

    def _renew(self, refused: "_Rest", url: str) -> "_Rest | None":
        """Return the API with newer keys than the refused ones, fetched at most once; None if there are none."""
        with self._connecting:
            if self._apis[url] is refused:  # otherwise another thread has fetched newer ones in the meantime
                if self._refreshed:
                    return None
                self._refreshed = True
                self._apis = self._fetch_apis(refresh=True)
            return self._apis[url]

    def _fetch_apis(self, *, refresh: bool) -> "dict[str, _Rest]":
        key_id, secret = self._credentials(refresh)
        _check_credential("ALPACAUSER", key_id)
        _check_credential("ALPACAPW", secret)
        return {url: _rest(url, key_id, secret, self._timeout_s, its) for url, its in self._budgets.items()}


@dataclass(frozen=True, slots=True)
class _Request:
    """A request to one of the APIs, and the seconds that it may still wait for the request limit."""

    url: str
    method: str
    path: str
    data: Parameters
    may_wait_s: Callable[[], float]
    version: str = "v2"

    @property
    def call(self) -> str:
        """The request's name in messages, such as "GET /account"."""
        return f"{self.method} {self.path}"


class _Rest(Protocol):
    """The method of the SDK's REST class that the client uses: its `get` and `post` know only one version."""

    def _request(self, method: str, path: str, data: dict[str, object], *, api_version: str) -> JsonValue: ...


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


def _rest(url: str, key_id: str, secret: str, timeout_s: tuple[float, float], budget: RequestBudget) -> _Rest:
    # Imported here because it takes a tenth of a second, and only runs that use Alpaca need it.
    from alpaca_trade_api.rest import REST

    rest = REST(key_id, secret, url, api_version="v2")
    rest._oauth = None  # otherwise APCA_API_OAUTH_TOKEN in the environment would replace the keys
    rest._retry = 0  # the SDK's own retries treat reads and orders alike
    for scheme in ("http://", "https://"):
        rest._session.mount(scheme, _Deadline(timeout_s))

    def note_answer(response: requests.Response, **_: object) -> None:
        budget.note_answer(response.status_code, response.headers)

    rest._session.hooks["response"].append(note_answer)  # the SDK itself does not show an answer's headers
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


def _log_retry(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    wait_s = state.upcoming_sleep
    LOG.warning("%s; trying again", error, extra={"attempt": state.attempt_number, "wait_s": round(wait_s, 3)})
