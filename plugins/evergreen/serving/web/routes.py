"""The paths by which models are asked: POST, an endpoint each. They are answered without Starlette."""

from __future__ import annotations

import re

from evergreen.serving.protocols.endpoint import Endpoint
from evergreen.serving.protocols.invocations_endpoint import InvocationsEndpoint
from evergreen.serving.protocols.predict_endpoint import PredictEndpoint
from evergreen.serving.protocols.tensors_endpoint import TensorsEndpoint

_TENSORS, _INVOCATIONS = TensorsEndpoint(), InvocationsEndpoint()
ENDPOINTS: dict[str, Endpoint] = {
    "/models/{name}/predict": PredictEndpoint(),
    "/v2/models/{name}/infer": _TENSORS,
    "/models/{name}/invocations": _INVOCATIONS,
    "/invocations": _INVOCATIONS,
}
_VERSIONED = re.compile("/v2/models/([^/]+)/versions/([^/]+)/infer")
_PATTERNS = [(re.compile(path.replace("{name}", "([^/]+)")), endpoint) for path, endpoint in ENDPOINTS.items()]
PATHS = (*ENDPOINTS, "/v2/models/{name}/versions/{version}/infer")


def endpoint_of(path: str) -> tuple[Endpoint, str] | None:
    """The endpoint of a decoded path and the model's name, empty where the path holds none; none for other paths."""
    for pattern, endpoint in _PATTERNS:
        if found := pattern.fullmatch(path):
            return endpoint, found[1] if found.re.groups else ""
    if found := _VERSIONED.fullmatch(path):
        return TensorsEndpoint(found[2]), found[1]
    return None
