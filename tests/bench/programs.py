"""The measured programs, run as a user runs them: one process each, in an installed program's environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PEAK = Path(__file__).parent / "peak.py"


@dataclass(frozen=True)
class Used:
    """What one process took.

    Attributes:
        milliseconds: from its start to its end.
        cpu: milliseconds of CPU that it took, of all its threads.
        mebibytes: the most memory it had (ru_maxrss).
        out: its stdout.
    """

    milliseconds: float
    cpu: float
    mebibytes: float
    out: str

    def then(self, other: Used) -> Used:
        """Both, one after the other."""
        return Used(
            self.milliseconds + other.milliseconds,
            self.cpu + other.cpu,
            max(self.mebibytes, other.mebibytes),
            self.out + other.out,
        )


@dataclass(frozen=True)
class Programs:
    """Runs programs on one cluster.

    Attributes:
        yoshi, kubectl: the programs.
        kubeconfig: whose cluster.
        folder: for what they cache. An installed program's bytecode is compiled; a source tree's may not be, and is
            compiled into this folder in a first run that does not count.
    """

    yoshi: Path
    kubectl: Path
    kubeconfig: Path
    folder: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """KUBECONFIG and the compiled bytecode."""
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        bytecode = str(self.folder / "bytecode")
        return {**kept, "KUBECONFIG": str(self.kubeconfig), "PYTHONPYCACHEPREFIX": bytecode}

    def run(self, *command: str | Path, input: str = "", more: Mapping[str, str] | None = None) -> str:
        """A program's stdout; CalledProcessError with its stderr where it fails. `more` goes into its environment."""
        words = [str(word) for word in command]
        environment = {**self.environment, **(more or {})}
        result = subprocess.run(words, input=input, capture_output=True, text=True, env=environment, check=False)
        if result.returncode:
            raise Failed(result.returncode, words, result.stdout, result.stderr)
        return result.stdout

    @contextmanager
    def going_on(self, *command: str | Path) -> Iterator[subprocess.Popen[str]]:
        """A program that answers on stdout what it is asked on stdin, until that is closed."""
        pipe = subprocess.PIPE
        words = [str(word) for word in command]
        with subprocess.Popen(
            words, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=self.environment
        ) as process:
            yield process

    def measured(self, *command: str | Path) -> Used:
        """The same with what it took, measured by the smallest parent that there can be (see peak.py)."""
        with tempfile.NamedTemporaryFile(dir=self.folder) as report:
            out = self.run(sys.executable, "-I", "-S", PEAK, report.name, *command)
            return Used(**json.loads(Path(report.name).read_text()), out=out)

    def yoshi_words(self, *words: str) -> list[str]:
        """The command line of this program."""
        return [str(self.yoshi), *words]

    def kubectl_words(self, *words: str) -> list[str]:
        """The command line of kubectl; its discovery cache is in the folder."""
        return [str(self.kubectl), f"--cache-dir={self.folder / 'discovery'}", *words]

    def by_yoshi(self, *words: str) -> str:
        """What this program prints."""
        return self.run(*self.yoshi_words(*words))

    def by_kubectl(self, *words: str, input: str = "") -> str:
        """What kubectl prints."""
        return self.run(*self.kubectl_words(*words), input=input)


class Failed(subprocess.CalledProcessError):
    """A program failed; says what it said."""

    def __str__(self) -> str:
        return f"{super().__str__()}\n{self.stderr.strip()}"
