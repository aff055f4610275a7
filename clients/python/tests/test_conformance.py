"""Runs the cases of `clients/conformance.json`, with each framework and the client that fits it.

`SESSIOND_URL` is the service listener of a node, and `SESSIOND_KEY` a service key of it.
`SCRIPTED_URL` is a server that plays the responses of the cases, and `CONFORMANCE` their file.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import time
import unittest
from typing import Any
from uuid import uuid4

from sessiond_client import Refusal, Unavailable

from .applications import Django, StarletteApplication

FRAMEWORKS: dict[str, type[Django] | type[StarletteApplication]] = {
    "django": Django,
    "starlette": StarletteApplication,
}

GUARD_OPTIONS = ("sign_in_path", "cookie_name", "allowed_origins")


class ConformanceTest(unittest.IsolatedAsyncioTestCase):
    """Runs one case with one framework."""

    def __init__(self, framework: str, index: int, case: dict[str, Any]) -> None:
        super().__init__("run_case")
        self._framework = framework
        self._index = index
        self._case = case

    def __str__(self) -> str:
        return f"{self._framework}: {self._case['name']}"

    async def run_case(self) -> None:
        saved = {"user": str(uuid4()), "other_user": str(uuid4())}
        start = time.monotonic()
        async with self._application() as application:
            for number, step in enumerate(self._case["steps"]):
                step = {"number": number, **filled_in(step, saved)}
                if "call" in step:
                    outcome = await self._call(application.client, step)
                else:
                    outcome = await send(application, step["request"])
                self._compare(outcome, step)
                for name, path in step.get("save", {}).items():
                    saved[name] = at(outcome, path)
        self.assertLess((time.monotonic() - start) * 1000, self._case.get("within_ms", 1e9))

    def _application(self) -> Django | StarletteApplication:
        url = setting("SESSIOND_URL")
        if "responses" in self._case:
            url = f"{setting('SCRIPTED_URL')}/{self._framework}/{self._index}"
        options = self._case.get("options", {})
        client = {}
        if "retries" in options:
            client["retries"] = options["retries"]
        for name in ("timeout", "attempt_timeout"):
            if f"{name}_ms" in options:
                client[name] = options[f"{name}_ms"] / 1000
        guard = {name: options[name] for name in GUARD_OPTIONS if name in options}
        return FRAMEWORKS[self._framework](url, setting("SESSIOND_KEY"), client, guard)

    async def _call(self, client: Any, step: dict[str, Any]) -> Any:
        try:
            result = getattr(client, step["call"])(**step.get("args", {}))
            if inspect.isawaitable(result):
                result = await result
        except Refusal as error:
            self.assertIn("refusal", step, error)
            errors = [dataclasses.asdict(it) for it in error.errors]
            return {
                "status": error.status,
                "code": error.code,
                "title": error.title,
                "errors": errors,
            }
        except Unavailable as error:
            self.assertIn("unavailable", step, error)
            return {"retry_after": error.retry_after}
        self.assertFalse({"refusal", "unavailable"} & step.keys(), result)
        if isinstance(result, int):
            return {"revoked_count": result}
        return None if result is None else plain(dataclasses.asdict(result))

    def _compare(self, outcome: Any, step: dict[str, Any]) -> None:
        for kind in ("expect", "refusal", "unavailable"):
            for path, expected in step.get(kind, {}).items():
                context = f"{path} of step {step['number']}"
                found = at(outcome, path)
                if expected == "*":
                    self.assertIsNotNone(found, context)
                else:
                    self.assertEqual(found, expected, context)


def load_tests(
    loader: unittest.TestLoader, tests: unittest.TestSuite, pattern: str | None
) -> unittest.TestSuite:
    """Returns a test for each case and framework."""
    with open(setting("CONFORMANCE"), encoding="utf-8") as file:
        cases = json.load(file)["cases"]
    return unittest.TestSuite(
        ConformanceTest(framework, index, case)
        for framework in FRAMEWORKS
        for index, case in enumerate(cases)
    )


def setting(name: str) -> str:
    """Returns the value of an environment variable."""
    value = os.environ.get(name)
    if not value:
        raise RuntimeError(f"the environment variable {name} is not set")
    return value


async def send(
    application: Django | StarletteApplication, request: dict[str, Any]
) -> dict[str, Any]:
    """Sends a request to an application; returns what it responds with."""
    response = await application.send(request["method"], "/", request["headers"])
    try:
        body = response.json()
    except ValueError:
        body = None
    return {"status": response.status_code, "headers": dict(response.headers), "body": body}


def plain(value: Any) -> Any:
    """Returns a value as JSON has it."""
    return json.loads(json.dumps(value, default=str))


def at(value: Any, path: str) -> Any:
    """Returns the value at a path such as `sessions.0.id`, or None."""
    for part in path.split("."):
        try:
            value = value[int(part) if isinstance(value, list) else part]
        except (IndexError, KeyError, TypeError):
            return None
    return value


def filled_in(value: Any, saved: dict[str, str]) -> Any:
    """Returns a step with saved values in the place of their names."""
    if isinstance(value, str):
        for name, text in saved.items():
            value = value.replace(f"{{{name}}}", str(text))
        return value
    if isinstance(value, list):
        return [filled_in(item, saved) for item in value]
    if isinstance(value, dict):
        return {name: filled_in(item, saved) for name, item in value.items()}
    return value
