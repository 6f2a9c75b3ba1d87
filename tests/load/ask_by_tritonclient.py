"""Run by test_real_clients.py in .venv-clients: everything that tritonclient[http] can ask of us, as its docs do it."""

import json
import sys
from typing import Any

import numpy as np
import tritonclient.http as http

MODEL = "flight-delay"
client = http.InferenceServerClient(sys.argv[1])


def inputs(*, binary: bool) -> list[http.InferInput]:
    """Two rows."""
    values = {
        "distance": ("FP32", np.array([500.0, 700.5], np.float32)),
        "hour": ("INT64", np.array([9, 3], np.int64)),
        "carrier": ("BYTES", np.array(["DL", "UA"], dtype=object)),
    }
    made = []
    for name, (datatype, array) in values.items():
        made.append(http.InferInput(name, [2], datatype))
        made[-1].set_data_from_numpy(array, binary_data=binary)
    return made


def infer(outputs: Any = None, *, binary: bool, **options: Any) -> dict[str, Any]:
    """The predictions and the answer around them."""
    answer = client.infer(MODEL, inputs(binary=binary), outputs=outputs, request_id="42", **options)
    return {"predictions": answer.as_numpy("prediction").tolist(), "response": answer.get_response()}


def refusal(**options: Any) -> str:
    """What the client raises."""
    try:
        client.infer(**{"model_name": MODEL, "inputs": inputs(binary=True), **options})
    except http.InferenceServerException as error:
        return f"{error.status()} {error.message()}"
    return ""


def wanted(*, binary: bool) -> list[http.InferRequestedOutput]:
    """The one output."""
    return [http.InferRequestedOutput("prediction", binary_data=binary)]


versions = ("", "1", "2")
print(
    json.dumps(
        {
            "live": client.is_server_live(),
            "ready": [client.is_server_ready(), *(client.is_model_ready(MODEL, version) for version in versions)],
            "server": client.get_server_metadata(),
            "metadata": [client.get_model_metadata(MODEL, version) for version in versions[:2]],
            "answers": {
                "binary": infer(binary=True),
                "JSON": infer(wanted(binary=False), binary=False),
                "binary in, JSON out": infer(wanted(binary=False), binary=True),
                "JSON in, binary out": infer(wanted(binary=True), binary=False),
                "a version, parameters": infer(binary=True, model_version="1", parameters={"campaign": 1}),
            },
            "refusals": {
                "a tensor missing": refusal(inputs=inputs(binary=True)[:2]),
                "no such model": refusal(model_name="flight-dely"),
                "another version": refusal(model_version="2"),
                "no such output": refusal(outputs=[http.InferRequestedOutput("shap")]),
                "classification": refusal(outputs=[http.InferRequestedOutput("prediction", class_count=2)]),
                "compressed": refusal(request_compression_algorithm="gzip"),
            },
        }
    )
)
