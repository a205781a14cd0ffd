"""Additions to moto's server in this process: AWS behavior that Terraform's provider or our commands need.

With them, a second plan after an apply is empty for the right reason: like AWS, the server returns what it was given.
"""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

from moto.awslambda import models
from moto.awslambda.exceptions import UnknownEventConfig
from moto.awslambda.responses import LambdaResponse
from moto.core.common_types import TYPE_RESPONSE
from moto.core.responses import ActionResult
from moto.iam.access_control import IAMPolicyStatement, PermissionResult
from moto.logs.exceptions import ResourceNotFoundException
from moto.logs.responses import LogsResponse
from moto.s3.exceptions import AccessDeniedByLock, MissingKey
from moto.s3.models import FakeBucket, S3Backend, s3_backends
from moto.s3.responses import S3Response
from moto.ssm.responses import SimpleSystemManagerResponse

ECHOED = "LoggingConfig", "DeadLetterConfig", "TracingConfig"
"""Parts of a function's configuration that moto forgets on creation or update."""


class Function(models.LambdaFunction):
    """A function that returns its whole configuration. A published version is a copy with its own configuration."""

    def __init__(self, account_id: str, spec: dict[str, Any], region: str, version: str | int = 1) -> None:
        self.told = {name: spec[name] for name in ECHOED if spec.get(name)}
        super().__init__(account_id, spec, region, version)

    def get_configuration(self, on_create: bool = False) -> dict[str, Any]:
        """Return the configuration, including the parts that moto forgets."""
        return super().get_configuration(on_create) | self.told

    def update_configuration(self, config_updates: dict[str, Any]) -> dict[str, Any]:
        """Update the configuration, and remember the parts that moto forgets."""
        self.told = self.told | {name: config_updates[name] for name in ECHOED if config_updates.get(name)}
        return super().update_configuration(config_updates)


# --- saved queries of Logs Insights ---


def put_query_definition(response: LogsResponse) -> str:
    """Save a query, or replace the saved query with the given id."""
    kept, given = _queries(response), json.loads(response.body)
    identity = given.setdefault("queryDefinitionId", str(uuid4()))
    if json.loads(response.body).get("queryDefinitionId") and identity not in kept:
        raise ResourceNotFoundException("The specified query definition does not exist.")
    kept[identity] = given
    return json.dumps({"queryDefinitionId": identity})


def describe_query_definitions(response: LogsResponse) -> str:
    """Return one page of the saved queries whose names begin with a prefix."""
    prefix, most = response._get_param("queryDefinitionNamePrefix") or "", response._get_int_param("maxResults") or 1000
    found = [query for query in _queries(response).values() if query["name"].startswith(prefix)]
    first = int(response._get_param("nextToken") or 0)
    more = {"nextToken": str(first + most)} if first + most < len(found) else {}
    return json.dumps({"queryDefinitions": found[first : first + most], **more})


def delete_query_definition(response: LogsResponse) -> str:
    """Delete a saved query."""
    if not _queries(response).pop(response._get_param("queryDefinitionId"), None):
        raise ResourceNotFoundException("The specified query definition does not exist.")
    return json.dumps({"success": True})


def _queries(response: LogsResponse) -> dict[str, dict[str, Any]]:
    kept: dict[str, dict[str, Any]] = vars(response.logs_backend).setdefault("query_definitions", {})
    return kept


# --- asynchronous invocation: retries, age and destination, for a function or one of its aliases ---


def put_function_event_invoke_config(response: LambdaResponse) -> ActionResult:
    """Save the configuration for the given qualifier only, as AWS does."""
    function, key = _qualify(response)
    arn = f"{function.function_arn.removesuffix(f':{function.version}')}:{key[1]}"
    config = models.EventInvokeConfig(arn, function.last_modified, response.json_body)
    _invoke_configs(response)[key] = config
    return ActionResult(config.response())


def get_function_event_invoke_config(response: LambdaResponse) -> ActionResult:
    """Return the configuration of one qualifier."""
    function, key = _qualify(response)
    if key not in _invoke_configs(response):
        raise UnknownEventConfig(function.function_arn)
    return ActionResult(_invoke_configs(response)[key].response())


def delete_function_event_invoke_config(response: LambdaResponse) -> TYPE_RESPONSE:
    """Delete the configuration of one qualifier."""
    function, key = _qualify(response)
    if not _invoke_configs(response).pop(key, None):
        raise UnknownEventConfig(function.function_arn)
    return 204, {"status": 204}, "{}"


def _qualify(response: LambdaResponse) -> tuple[models.LambdaFunction, tuple[str, str]]:
    name, qualifier = unquote(response.path.rsplit("/", 2)[1]), response._get_param("Qualifier")
    function = response.backend.get_function(name, qualifier)
    return function, (function.function_name, qualifier or "$LATEST")


def _invoke_configs(response: LambdaResponse) -> dict[tuple[str, str], models.EventInvokeConfig]:
    kept: dict[tuple[str, str], models.EventInvokeConfig] = vars(response.backend).setdefault("invoke_configs", {})
    return kept


# --- invocation ---


def invoke(response: LambdaResponse) -> tuple[int, dict[str, str], str | bytes]:
    """Invoke the named version or alias. moto reads `qualifier`, not `Qualifier`, and would always run the latest."""
    response.querystring |= {"qualifier": response.querystring.get("Qualifier", [None])}
    return _invoke(response)


_invoke: Callable[[LambdaResponse], tuple[int, dict[str, str], str | bytes]] = LambdaResponse.invoke


# --- buckets ---


def head_bucket(backend: S3Backend, bucket_name: str) -> FakeBucket:
    """Return a bucket if this account owns it; moto lets every account read all buckets."""
    _, owner = s3_backends.bucket_accounts.get(bucket_name, ("", backend.account_id))
    if owner != backend.account_id:
        raise AccessDeniedByLock
    return backend.get_bucket(bucket_name)


WITHOUT_TLS = {"Bool": {"aws:SecureTransport": "false"}}


def is_action_permitted(statement: IAMPolicyStatement, *request: object, **more: object) -> PermissionResult:
    """Judge a request by a statement, except the one that requires TLS: moto denies even if its condition is false."""
    its = statement._statement
    if its["Effect"] == "Deny" and its.get("Condition") == WITHOUT_TLS:
        return PermissionResult.NEUTRAL
    return _is_action_permitted(statement, *request, **more)


_is_action_permitted: Callable[..., PermissionResult] = IAMPolicyStatement.is_action_permitted


# --- permissions, where they are enforced ---


def _authenticate_and_authorize_normal_action(response: SimpleSystemManagerResponse, resource: str = "*") -> None:
    """Check the caller's permission for every named parameter; moto checks it for `*`, which no policy names."""
    asked = json.loads(response.body or "{}")
    names = [*asked.get("Names", []), *([asked["Name"]] if "Name" in asked else [])]
    prefix = f"arn:aws:ssm:{response.region}:{response.current_account}:parameter"
    for each in [f"{prefix}/{name.removeprefix('/')}" for name in names] or [resource]:
        _authorize(response, each)


_authorize = SimpleSystemManagerResponse._authenticate_and_authorize_normal_action


def get_object(response: S3Response) -> TYPE_RESPONSE:
    """Return an object. Like AWS, tell only callers who may list the bucket that an object is missing."""
    try:
        return _get_object(response)
    except MissingKey:
        response.data["Action"] = "ListBucket"
        response._authenticate_and_authorize_s3_action(bucket_name=response.bucket_name)
        raise


_get_object: Callable[[S3Response], TYPE_RESPONSE] = S3Response.get_object

REPLACED: dict[type, list[Callable[..., object]]] = {
    LogsResponse: [put_query_definition, describe_query_definitions, delete_query_definition],
    LambdaResponse: [
        put_function_event_invoke_config,
        get_function_event_invoke_config,
        delete_function_event_invoke_config,
        invoke,
    ],
    S3Backend: [head_bucket],
    S3Response: [get_object],
    IAMPolicyStatement: [is_action_permitted],
    SimpleSystemManagerResponse: [_authenticate_and_authorize_normal_action],
}


def fill() -> None:
    """Install these additions in all moto servers of this process."""
    vars(models)["LambdaFunction"] = Function
    for kind, functions in REPLACED.items():
        for function in functions:
            setattr(kind, function.__name__, function)
