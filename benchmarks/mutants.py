"""Would a test notice? Seeded random changes of signals and rules, each against the tests of its own module.

``python benchmarks/mutants.py [--mutants 400] [--seed 0] [--limits] [--users] [--only TEXT] [--all]``

The package and its tests are copied to a temporary folder; a change (`mutant_operators.py`) is made in memory only.
Each runs in a process forked from one that has everything heavy imported, until the first test fails, and at most some
times as long as without the change. A module's tests are ``tests/signal/test_<module>.py`` or
``tests/rules/<family>/test_<rule>.py`` and those beside it that import the module; else all that import it, or those of
the modules that do. With ``--users`` what survives these is tried with the tests of the modules that need it too, and
counted apart. ``--limits`` halves and doubles every number of ``signal/limits.py`` instead, against the tests of the
modules that use it. Changes that mean the same are survivors like others; they are printed as they come to the error
stream. Exit status 1 below 85 % killed by own tests, with ``--limits`` where a limit survives.
"""

from __future__ import annotations

import argparse
import ast
import importlib.abc
import importlib.util
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Final

from mutant_operators import Mutant, changed, limits_of, mutants_of

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGE: Final = "ko_cpt_callbacks"
ROOMS: Final = ("signal", "rules")
LIMITS: Final = ("signal/limits.py", "signal/run_limits.py")
BAR: Final = 0.85
_TIMES: Final = 4.0
"""Times the duration without a change that a change may take, and the seconds more below."""
_MORE: Final = 10.0
_MEMORY: Final = 4 << 30
_KILLED, _SURVIVED, _LATE = "killed", "survived", "timeout"
_LISTS: Final = {"rules/registry.py", "rules/monitor.py"}
"""They import every rule, and need none."""


class Code:
    """The package as it is: sources, who imports whom, which limits are used where, and tests.

    Args:
        root: Folder with the package and its tests.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        paths = [path for room in ROOMS for path in sorted((root / PACKAGE / room).rglob("*.py"))]
        self.sources = {path.relative_to(root / PACKAGE).as_posix(): path.read_text("utf-8") for path in paths}
        self.sources = {name: text for name, text in self.sources.items() if not name.endswith("__init__.py")}
        self._users: dict[str, set[str]] = defaultdict(set)
        self._limit_users: dict[str, set[str]] = defaultdict(set)
        for name, text in self.sources.items():
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE):
                    base = (node.module or "").partition(".")[2].replace(".", "/")
                    for other in (f"{base}.py", *(f"{base}/{alias.name}.py" for alias in node.names)):
                        self._users[other].add(name)
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "limits":
                    self._limit_users[node.attr].add(name)
        self._tests: dict[str, set[str]] = defaultdict(set)
        for path in (one for room in ROOMS for one in sorted((root / "tests" / room).rglob("test_*.py"))):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE):
                    module = (node.module or "").partition(".")[2].replace(".", "/")
                    self._tests[f"{module}.py"].add(path.relative_to(root).as_posix())
        self.names = {
            (name, node.lineno): node.target.id for name in LIMITS for node in ast.parse(self.sources[name]).body
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        }  # fmt: skip

    def users(self, mutant: Mutant) -> set[str]:
        """Modules that import the changed one, or use the changed limit."""
        if mutant.module in LIMITS:
            return self._limit_users[self.names.get((mutant.module, mutant.line), "")]
        return self._users[mutant.module]

    def described(self, mutant: Mutant) -> str:
        """Where the change is and what it is."""
        limit = self.names.get((mutant.module, mutant.line))
        name = "" if limit is None else f" {limit}"
        return f"{mutant.module}:{mutant.line}{name}  {mutant.before}  ->  {mutant.after}"

    def own(self, mutant: Mutant) -> tuple[str, ...]:
        """The tests of a changed module; where none is its own, of those that import it."""
        return self._of([mutant.module]) or self._of(self.users(mutant)) or self._of(self._far(mutant))

    def wide(self, mutant: Mutant) -> tuple[str, ...]:
        """Those, and the tests of all modules that need it, near ones first."""
        users = self.users(mutant) - _LISTS
        return tuple(dict.fromkeys((*self.own(mutant), *self._of(users), *self._of(self._far(mutant)))))

    def _far(self, mutant: Mutant) -> set[str]:
        found, new = set(self.users(mutant)), set(self.users(mutant))
        while new:
            new = {user for name in new for user in self._users[name]} - found
            found |= new
        return found - _LISTS

    def _of(self, modules: Iterable[str]) -> tuple[str, ...]:
        found: list[str] = []
        for name in sorted(modules):
            where = Path(name)
            folder = f"tests/{where.parent.as_posix()}/"
            named = f"{folder}test_{where.stem}.py"
            beside = sorted(one for one in self._tests[name] if one.startswith(folder) and one != named)
            found += [named, *beside] if (self.root / named).exists() else sorted(self._tests[name])
        return tuple(dict.fromkeys(found))


class _Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives one module of the package from a tree, every other as it lies there."""

    def __init__(self, name: str, path: Path, tree: ast.Module) -> None:
        self._name, self._path, self._tree = name, path, tree

    def find_spec(self, fullname: str, path: object = None, target: ModuleType | None = None) -> object:
        """The changed module's spec; none for others."""
        if fullname != self._name:
            return None
        return importlib.util.spec_from_file_location(fullname, self._path, loader=self)

    def create_module(self, spec: object) -> None:
        """As usual."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the changed tree."""
        exec(compile(self._tree, str(self._path), "exec"), module.__dict__)


@dataclass
class Try:
    """One run of some tests with one change, or with none.

    Args:
        mutant: The change.
        tests: Paths of test files.
        wide: Whether these are the tests of its users too.
        limit: Seconds at most.
        begun: When it began.
    """

    mutant: Mutant | None
    tests: tuple[str, ...]
    wide: bool = False
    limit: float = 600.0
    begun: float = field(default_factory=time.monotonic)


def fork(code: Code, one: Try) -> int:
    """Start it in a process of its own and return its number."""
    sys.stdout.flush()
    number = os.fork()
    if number:
        return number
    result = 3
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        import pytest

        if one.mutant is not None:
            sys.dont_write_bytecode = True
            path = code.root / PACKAGE / one.mutant.module
            name = ".".join((PACKAGE, *Path(one.mutant.module).with_suffix("").parts))
            sys.meta_path.insert(0, _Changed(name, path, changed(code.sources[one.mutant.module], one.mutant)))
        result = int(pytest.main(["-x", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", *one.tests]))
    finally:
        os._exit(result)


def run_all(code: Code, tries: list[Try], workers: int, done: Callable[[Try, str], Try | None]) -> None:
    """Run tries, some at a time; ``done`` gets each result and may give the next try."""
    waiting, running = list(reversed(tries)), {}
    while waiting or running:
        while waiting and len(running) < workers:
            one = waiting.pop()
            one.begun = time.monotonic()
            running[fork(code, one)] = one
        for number, one in list(running.items()):
            late = time.monotonic() - one.begun > one.limit
            if late:
                os.killpg(number, signal.SIGKILL)
            ended, status = os.waitpid(number, 0 if late else os.WNOHANG)
            if ended:
                del running[number]
                passed = os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0
                following = done(one, _LATE if late else _SURVIVED if passed else _KILLED)
                if following is not None:
                    waiting.append(following)
        time.sleep(0.005)


def copy_of(root: Path, into: Path) -> Code:
    """The package and its tests in another folder, first in the search path of this process, heavy parts imported."""
    for name in (PACKAGE, "tests"):
        shutil.copytree(root / name, into / name, ignore=shutil.ignore_patterns("__pycache__", "golden", "e2e"))
    for name in ("docs", "pyproject.toml"):
        (shutil.copytree if (root / name).is_dir() else shutil.copy)(root / name, into / name)
    os.chdir(into)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    # Neither the package as it is, nor a benchmark that is named as a folder of tests.
    without = (root, root / "benchmarks")
    others = [one for one in sys.path if Path(one or ".").resolve() not in without]
    sys.path[:] = [str(into), str(into / "tests"), *others]
    for room in ("metrics", "messages", "run", "watch", "compare"):
        for path in sorted((into / PACKAGE / room).glob("*.py")):
            importlib.import_module(f"{PACKAGE}.{room}.{path.stem}")
    for name in ("numpy", "pytest", "_pytest.assertion.rewrite", "difflib", "unittest"):
        importlib.import_module(name)
    assert not any(name.startswith(tuple(f"{PACKAGE}.{room}" for room in ROOMS)) for name in sys.modules)
    return Code(into)


def main() -> int:
    """Make the changes, run the tests, print the table and what survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=400, help="how many, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limits", action="store_true", help="every limit halved and doubled, nothing else")
    parser.add_argument("--users", action="store_true", help="survivors against tests of their users too")
    parser.add_argument("--only", action="append", default=[], help="only changes of which the line printed holds this")
    parser.add_argument("--all", action="store_true", help="every change of these modules, not a sample")
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        code = copy_of(ROOT, Path(folder).resolve())
        mutants = chosen(code, asked)
        results, took = judged(code, mutants, asked.workers, users=asked.users)
        shown = table(code, mutants, results, took)
    own = sum(results[one][0] != _SURVIVED for one in mutants)
    print(f"{len(mutants)} changes, seed {asked.seed}, {(time.monotonic() - begun) / 60:.1f} minutes")
    return 1 if shown and (asked.limits or own < BAR * len(mutants)) else 0


def chosen(code: Code, asked: argparse.Namespace) -> list[Mutant]:
    """The changes to try: drawn with the seed from all, or two of every limit."""
    every = [one for name, source in code.sources.items() for one in mutants_of(name, source)]
    if asked.limits:
        every = [one for name in LIMITS for one in limits_of(name, code.sources[name])]
    every = [one for one in every if not asked.only or any(text in code.described(one) for text in asked.only)]
    print(f"{len(every)} possible changes of {len({one.module for one in every})} modules", flush=True)
    if asked.all or asked.limits or asked.mutants >= len(every):
        return every
    return sorted(
        random.Random(asked.seed).sample(every, asked.mutants), key=lambda one: (one.module, one.line, one.node)
    )


def judged(
    code: Code, mutants: list[Mutant], workers: int, *, users: bool
) -> tuple[dict[Mutant, tuple[str, str]], dict[tuple[str, ...], float]]:
    """Per change the results of its own tests and of those of its users too; seconds of tests without a change."""
    took: dict[tuple[str, ...], float] = {}
    sets = dict.fromkeys(code.own(one) for one in mutants)

    def measured(one: Try, result: str) -> None:
        took[one.tests] = time.monotonic() - one.begun
        if result != _SURVIVED:
            raise SystemExit(f"without a change: {result}: {' '.join(one.tests)}")

    run_all(code, [Try(None, tests) for tests in sets if tests], workers, measured)
    results: dict[Mutant, tuple[str, str]] = dict.fromkeys(mutants, (_SURVIVED, _SURVIVED))

    def counted(one: Try, result: str) -> Try | None:
        assert one.mutant is not None
        if one.wide:
            results[one.mutant] = (_SURVIVED, result)
            return None
        results[one.mutant] = (result, result)
        if result == _SURVIVED:
            print(f"  survived: {code.described(one.mutant)}", file=sys.stderr, flush=True)
        more = tuple(test for test in code.wide(one.mutant) if test not in one.tests)
        return Try(one.mutant, more, True) if users and result == _SURVIVED and more else None

    tries = [Try(one, tests, limit=_MORE + _TIMES * took[tests]) for one in mutants if (tests := code.own(one))]
    run_all(code, tries, workers, counted)
    return results, took


def table(
    code: Code, mutants: list[Mutant], results: dict[Mutant, tuple[str, str]], took: dict[tuple[str, ...], float]
) -> int:
    """Print a line a module, and every survivor; returns how many survive all tests."""
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for one in mutants:
        own, wide = results[one]
        rows[one.module].update((own, "wide" if own == _SURVIVED != wide else "", "all"))
    total = sum(rows.values(), Counter())
    print(f"{'module':<44} changes  killed timeout survived  own %  (by tests of users)")
    for name, row in [*sorted(rows.items()), ("all", total)]:
        counts = f"{row['all']:>7} {row[_KILLED]:>7} {row[_LATE]:>7} {row[_SURVIVED]:>8}"
        print(f"{name:<44} {counts} {1 - row[_SURVIVED] / row['all']:>6.1%}  {row['wide'] or ''}")
    left = [one for one in mutants if results[one][0] == _SURVIVED]
    for one in left:
        by = " (killed by tests of its users)" if results[one][1] != _SURVIVED else ""
        tests = "" if code.own(one) else " (no test at all)"
        print(f"  {code.described(one)}{by}{tests}")
    slow = sorted(took.items(), key=lambda item: -item[1])[:3]
    print("slowest tests: " + ", ".join(f"{Path(tests[0]).name} {seconds:.1f} s" for tests, seconds in slow))
    return sum(results[one][1] == _SURVIVED for one in mutants)


if __name__ == "__main__":
    sys.exit(main())
