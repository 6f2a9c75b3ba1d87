"""Run by test_real_clients.py in .venv-clients: kserve's REST client, for metadata and infer."""

import asyncio
import json
import sys
from typing import Any

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

MODEL, URL = "flight-delay", sys.argv[1]
VALUES = {"distance": ("FP32", [500.0]), "hour": ("INT32", [9]), "carrier": ("BYTES", ["DL"])}
DTYPES = {"FP32": "float32", "INT32": "int32", "BYTES": "object"}


def inputs(*, binary: bool) -> list[InferInput]:
    """One row."""
    made = []
    for name, (datatype, values) in VALUES.items():
        made.append(InferInput(name, [1], datatype, None if binary else values))
        if binary:
            made[-1].set_data_from_numpy(np.array(values, DTYPES[datatype]), binary_data=True)
    return made


async def infer(client: InferenceRESTClient, *, binary: bool) -> dict[str, Any]:
    """The predictions and the answer around them."""
    request = InferRequest(
        MODEL, inputs(binary=binary), request_id="42", parameters={"binary_data_output": True} if binary else None
    )
    answer = await client.infer(URL, request, model_name=MODEL)
    predictions = answer.outputs[0].as_numpy().tolist()
    return {"predictions": predictions, "id": answer.id, "model": answer.model_name, "parameters": answer.parameters}


async def asked() -> dict[str, Any]:
    """All that it can ask."""
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    try:
        await client.infer(URL, InferRequest(MODEL, inputs(binary=False)[:1]), model_name=MODEL)
        refusal = ""
    except httpx.HTTPStatusError as error:
        refusal = f"{error.response.status_code} {error}"
    return {
        "ready": [await client.is_server_live(URL), await client.is_server_ready(URL)],
        "model": await client.is_model_ready(URL, MODEL),
        "answers": {"JSON": await infer(client, binary=False), "binary": await infer(client, binary=True)},
        "refusal": refusal,
    }


print(json.dumps(asyncio.run(asked())))
