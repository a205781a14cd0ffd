"""The real Alpaca broker adapter, calling the stand-in without a network: for tests that place thousands of orders."""

from collections.abc import Mapping
from typing import override
from urllib.parse import urlencode

from scripts.testkit.alpaca_api import AlpacaApi
from trader.alpaca.client import AlpacaClient, CredentialsError, JsonValue, NoAnswerError, Parameters, RefusedError
from trader.broker.alpaca import AlpacaBroker


class DirectClient(AlpacaClient):
    """A client that calls the stand-in directly, without retries, and treats its answers like a server's."""

    def __init__(self, alpaca: AlpacaApi) -> None:
        super().__init__("", "", lambda _: (alpaca.key_id, alpaca.secret))
        self._alpaca = alpaca

    @override
    def get(self, path: str, parameters: Parameters | None = None) -> JsonValue:
        return self._ask("GET", f"{path}?{urlencode(dict(parameters or {}))}", None)

    @override
    def get_data(self, path: str, parameters: Parameters | None = None, *, version: str = "v2") -> JsonValue:
        return self._ask("GET", f"{path}?{urlencode(dict(parameters or {}))}", None, version)

    @override
    def post(self, path: str, body: Parameters) -> JsonValue:
        return self._ask("POST", path, body)

    @override
    def delete(self, path: str) -> JsonValue:
        return self._ask("DELETE", path, None)

    def _ask(self, method: str, path: str, body: Parameters | None, version: str = "v2") -> JsonValue:
        headers = {"APCA-API-KEY-ID": self._alpaca.key_id, "APCA-API-SECRET-KEY": self._alpaca.secret}
        answer = self._alpaca.answer(method, f"/{version}{path}", headers, body)
        call = f"{method} {path}"
        if answer is None or answer.html or answer.status >= 500:
            raise NoAnswerError(f"{call}: no usable answer")
        if answer.status == 401:
            raise CredentialsError(f"{call}: the keys were refused")
        if answer.status >= 400:
            told: Mapping[str, object] = answer.payload
            code = told.get("code", 0)
            raise RefusedError(f"{call}: {told['message']}", answer.status, code if isinstance(code, int) else 0)
        return answer.payload


class DirectBroker(AlpacaBroker):
    """A broker that trades on the stand-in `alpaca` and uses its clock."""

    def __init__(self, alpaca: AlpacaApi) -> None:
        super().__init__(DirectClient(alpaca), lambda: alpaca.now)
        alpaca.now = alpaca.now  # a time that is set is the one in all answers
        self.alpaca = alpaca
