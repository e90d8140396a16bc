"""How clients of AWS authenticate, for the OpenAPI document."""

from typing import Any

AWS_SIGNATURE: dict[str, dict[str, Any]] = {
    "awsSignature": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "x-amazon-apigateway-authtype": "awsSigv4",
        "description": "A signature of the whole request with a key pair, as clients of AWS make"
        " it: AWS4-HMAC-SHA256, for the service execute-api or cloudformation. The headers Host"
        " and X-Amz-Date must be signed.",
    },
}
