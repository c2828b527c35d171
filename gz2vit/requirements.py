"""The requirements of pyproject.toml and requirements.txt, read with the standard library alone.

The environment is checked before anything is installed, so `packaging` cannot be used; a test
holds the comparison of versions here against it.
"""

import hashlib
import re
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CLAUSE = re.compile(r"(>=|<=|==|!=|<|>)\s*([\d.]+)")


def release(text: str) -> tuple[int, ...]:
    """The numbers of a version without trailing zeros: "2.10.0+cu13" is (2, 10)."""
    match = re.match(r"\d+(\.\d+)*", text)
    numbers = [int(number) for number in match[0].split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def satisfies(installed: str, clauses: str) -> bool:
    """Whether a version lies in a range such as ">=0.20.3,<1.0"."""
    have = release(installed)
    for operator, bound in CLAUSE.findall(clauses):
        want = release(bound)
        checks = {
            ">=": have >= want,
            "<=": have <= want,
            "==": have == want,
            "!=": have != want,
            "<": have < want,
            ">": have > want,
        }
        if not checks[operator]:
            return False
    return True


def project_requirements(root: Path) -> list[str]:
    """The requirements of pyproject.toml, those of the tests included."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["dependencies"] + project.get("optional-dependencies", {}).get("test", [])


def missing_requirements(root: Path) -> list[str]:
    """The requirements of pyproject.toml that the running interpreter does not satisfy."""
    missing = []
    for requirement in project_requirements(root):
        name, clauses = re.fullmatch(r"([\w.-]+)\s*(.*)", requirement).groups()
        try:
            satisfied = satisfies(version(name), clauses)
        except PackageNotFoundError:
            satisfied = False
        if not satisfied:
            missing.append(requirement)
    return missing


def requirements_hash(root: Path) -> str:
    """The SHA-256 of requirements.txt, in hexadecimal."""
    return hashlib.sha256((root / "requirements.txt").read_bytes()).hexdigest()
