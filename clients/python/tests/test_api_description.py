"""The results and the arguments of calls are those of the API description.

`OPENAPI` is the file that it is in, as `sessiond openapi` prints it.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import unittest
from typing import Any

import sessiond_client as it
from sessiond_client.types import FieldError

RESULTS = {
    it.CreatedSession: "CreatedSessionBody",
    it.Device: "DeviceBody",
    it.Event: "EventBody",
    it.EventPage: "EventsBody",
    FieldError: "FieldError",
    it.RotatedToken: "TokenBody",
    it.Session: "WholeSessionBody",
    it.SessionList: "ListBody",
    it.Verification: "VerifiedBody",
}

# Headers have other names as arguments. A response that comes before its time has no call, and
# operators revoke all sessions, or those that match, in the console or with their command.
RENAMED = {
    "Idempotency-Key": "idempotency_key",
    "If-Match": "if_match",
    "Prefer": None,
    "all": None,
    "filter": None,
    "dry_run": None,
}


class ApiDescriptionTest(unittest.TestCase):
    """Compares the client with the description."""

    def setUp(self) -> None:
        path = os.environ.get("OPENAPI")
        if not path:
            self.fail("the environment variable OPENAPI is not set")
        with open(path, encoding="utf-8") as file:
            self.description = json.load(file)

    def properties(self, schema: dict[str, Any]) -> set[str]:
        """Returns the names of the properties of a schema."""
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            return self.properties(self.description["components"]["schemas"][name])
        names = set(schema.get("properties", {}))
        return names.union(*(self.properties(part) for part in schema.get("allOf", [])))

    def test_results_have_the_fields_of_the_description(self) -> None:
        for kind, name in RESULTS.items():
            with self.subTest(name):
                fields = {field.name for field in dataclasses.fields(kind)}
                self.assertEqual(fields, self.properties({"$ref": name}))

    def test_calls_have_the_arguments_of_the_description(self) -> None:
        operations = {
            operation["operationId"]: (path, operation)
            for path, methods in self.description["paths"].items()
            for operation in methods.values()
            if isinstance(operation, dict)
        }
        operations["inspect_session"] = operations["get_session"]
        for name, method in inspect.getmembers(it.Client, inspect.isfunction):
            if name.startswith("_") or name == "close":
                continue
            with self.subTest(name):
                path, operation = operations[name]
                names = {parameter["name"] for parameter in operation.get("parameters", [])}
                for content in operation.get("requestBody", {}).get("content", {}).values():
                    names |= self.properties(content["schema"])
                expected = {RENAMED.get(argument, argument) for argument in names} - {None}
                if "id" in expected:
                    expected = expected - {"id"} | {"session_id"}
                if name == "inspect_session":
                    expected.remove("user_id")
                arguments = set(inspect.signature(method).parameters) - {"self"}
                self.assertEqual(arguments, expected)
