"""Breaks each rule of the installed client's own model by itself, for every operation that is served.

Clients check next to nothing of it, so the server has to: the answer must be 400, of the service's own error
for it, and name the member. What each request is about need not exist, since members are checked before.
It prints one JSON object a service; what was not refused so goes to standard error and ends it with 1.
"""
import copy
import json
import os
import re
import sys

import botocore.auth
import botocore.awsrequest
import botocore.httpsession
import botocore.serialize
import botocore.session
import botocore.utils

ENDPOINT, REGION, ACCOUNT = os.environ["AWS_ENDPOINT"], os.environ["AWS_DEFAULT_REGION"], os.environ["ACCOUNT"]
SESSION = botocore.session.get_session()
HTTP = botocore.httpsession.URLLib3Session()
SERIALIZER = botocore.serialize.create_serializer("rest-json", False)
REFUSAL = {"greengrassv2": "ValidationException", "iot": "InvalidRequestException"}
GREENGRASS = f"arn:aws:greengrass:{REGION}:{ACCOUNT}:components:com.example.Saw"
SAMPLES = ["a", "1", "2020-04-01", "A", "a" * 64, GREENGRASS + ":versions:1.0.0", GREENGRASS, f"arn:aws:iot:{REGION}:{ACCOUNT}:thinggroup/a"]
NUMBERS = ("integer", "long", "double", "float", "timestamp")
JSON = {"string": "x", "number": 7, "boolean": True, "list": [7], "object": {"a": 7}}
JSON_TYPE = {"string": "string", "blob": "string", "boolean": "boolean", "list": "list", "map": "object", "structure": "object"}
# Members that are judged by more than their shapes.
SPECIAL = {"merge": "{}", "templateBody": "{}", "policyDocument": "{}", "componentVersion": "1.0.0", "reset": "/a",
           "parentTargetArn": f"arn:aws:iot:{REGION}:{ACCOUNT}:thinggroup/b"}
# Here an empty map is none.
ALLOWED = {("CreateDeployment", "tags", "min"), ("CreateComponentVersion", "tags", "min")}


def matches(pattern, text):
    for java, python in [(r"\p{L}\p{Z}\p{N}", r"\w\s"), (r"\p{Upper}", "A-Z"), (r"\p{Digit}", "0-9"), (r"\p{Graph}", "!-~"), (r"\P{C}", r"[^\0-\x1f]"), (r"\p{C}", r"\0-\x1f")]:
        pattern = pattern.replace(java, python)
    try:
        return re.fullmatch(pattern, text) is not None
    except re.error:  # of operations that are not served
        return True


def sample(shape, name=""):
    """A value that holds the shape's rules."""
    rules, kind = shape.metadata, shape.type_name
    if kind == "structure":
        return {n: sample(m, n) for n, m in shape.members.items()}
    if kind == "list":
        return [sample(shape.member, name)]
    if kind == "map":
        return {sample(shape.key): sample(shape.value)}
    if kind == "string" and name in SPECIAL:
        return SPECIAL[name]
    if kind == "string":
        fits = [s for s in shape.enum or SAMPLES if rules.get("min", 0) <= len(s) <= rules.get("max", len(s)) and matches(rules.get("pattern", ".*"), s)]
        return fits[0] if fits else ""
    return {"boolean": True, "timestamp": 1.6e9, "blob": b"a", "double": 1.0, "float": 1.0}.get(kind, max(1, rules.get("min", 1)))


def broken(shape, good, body):
    """Names of rules, each with a value that breaks it and no other."""
    rules, kind = shape.metadata, shape.type_name
    if kind == "string":
        if shape.enum:
            yield "enum", "none of them"
        if rules.get("min"):
            yield "min", good[:rules["min"] - 1]
        if rules.get("max", 1e9) < 100_000 and not shape.enum:
            yield "max", good + "a" * (rules["max"] + 1 - len(good))
        for letter in "\n {é" if rules.get("pattern") else "":
            if not matches(rules["pattern"], good[1:] + letter):
                yield "pattern", good[1:] + letter
    elif kind in NUMBERS:
        if "min" in rules:
            yield "min", rules["min"] - 1
        if "max" in rules:
            yield "max", rules["max"] + 1
        yield "text", "x"
        if kind in ("integer", "long"):
            yield "whole", 1.5
            yield "size", 2**31 if kind == "integer" else 2**63
    elif kind in ("list", "map"):
        if rules.get("min"):
            yield "min", type(good)()
        if rules.get("max", 1e9) <= 1000:
            yield "max", good * (rules["max"] + 1) if kind == "list" else {f"k{i}": v for v in good.values() for i in range(rules["max"] + 1)}
        if kind == "map" and "max" in shape.key.metadata:
            yield "key", {"k" * (shape.key.metadata["max"] + 1): v for v in good.values()}
    if body:
        yield from [("type", other) for name, other in JSON.items() if name != JSON_TYPE.get(kind, "number")]


def walk(shape, value, path=()):
    """Paths of all members below value, with their shapes and whether they are required."""
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            wire = member.serialization.get("name", name)
            if not member.serialization.get("location") and wire in value:
                yield path + (wire,), member, name in shape.required_members
                yield from walk(member, value[wire], path + (wire,))
    elif shape.type_name in ("list", "map") and value:
        key = 0 if shape.type_name == "list" else next(iter(value))
        yield from walk(shape.member if shape.type_name == "list" else shape.value, value[key], path + (key,))


class Service:
    def __init__(self, name):
        self.name, self.model = name, SESSION.get_service_model(name)
        self.signer = botocore.auth.SigV4Auth(SESSION.get_credentials(), self.model.signing_name, REGION)
        self.count, self.served, self.wrong = 0, 0, []

    def send(self, parts, query, body):
        url = ENDPOINT + parts["url_path"] + "?" + botocore.utils.percent_encode_sequence(query)
        request = botocore.awsrequest.AWSRequest(
            method=parts["method"], url=url, headers=dict(parts["headers"]), data=json.dumps(body) if body is not None else b"")
        self.signer.add_auth(request)
        answer = HTTP.send(request.prepare())
        return answer.status_code, answer.headers.get("x-amzn-ErrorType", ""), answer.text

    def expect(self, operation, member, rule, answer):
        self.count += 1
        status, code, text = answer
        if status != 400 or code != REFUSAL[self.name] or member not in text:
            self.wrong.append(f"{operation} {member} {rule}: {status} {code} {text[:300]}")

    def check(self, operation):
        model = self.model.operation_model(operation)
        shape = model.input_shape
        given = sample(shape) if shape else {}
        parts = SERIALIZER.serialize_to_request(given, model)
        body = json.loads(parts["body"]) if parts["body"] else None
        query = {k: str(v).lower() if isinstance(v, bool) else v for k, v in parts["query_string"].items()}
        if self.send(parts, {**query, "maxResults": "x"}, body if body is None else [])[1] == "UnknownOperationException":
            return
        self.served += 1
        for name, member in shape.members.items() if shape else []:
            place, wire = member.serialization.get("location"), member.serialization.get("name", name)
            if place == "uri" and member.type_name == "string":
                for rule, value in broken(member, given[name], False):
                    if value:
                        self.expect(operation, wire, rule, self.send(SERIALIZER.serialize_to_request({**given, name: value}, model), query, body))
            elif place == "querystring" and member.type_name not in ("list", "map"):
                for rule, value in broken(member, given[name], False):
                    self.expect(operation, wire, rule, self.send(parts, {**query, wire: str(value)}, body))
        for path, member, required in walk(shape, body) if body is not None else []:
            good, name = body, next(p for p in reversed(path) if isinstance(p, str))
            for p in path:
                good = good[p]
            for rule, value in [*broken(member, good, True), *[("required", None)] * required]:
                changed = copy.deepcopy(body)
                at = changed
                for p in path[:-1]:
                    at = at[p]
                at[path[-1]] = value
                if (operation, name, rule) not in ALLOWED:
                    self.expect(operation, name, rule, self.send(parts, query, changed))


wrong = []
for service in map(Service, REFUSAL):
    for operation in service.model.operation_names:
        service.check(operation)
    wrong += service.wrong
    print(json.dumps({"step": service.name, "operations": service.served, "requests": service.count, "wrong": len(service.wrong)}), flush=True)
sys.exit("\n".join(wrong) if wrong else 0)
