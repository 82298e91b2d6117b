"""tools/reliability.py: it notices what careless commands leave when they are disturbed.

    python -m pytest tests/test_reliability.py
"""

import re

import pytest

from files import InputError
from tools import reliability
from tools.reliability import Command

COMMANDS = """
import os
from pathlib import Path
from files import new_file, refuse_existing

def main(words):
    kind, out = words[0], Path(words[1])
    refuse_existing(out, overwrite=words[-1] == "--again")
    if kind == "careful":
        with new_file(out) as temporary:
            temporary.write_text("all of it")
    elif kind == "half":
        out.write_text("all")
        open(out, "a").write(" of it")
    elif kind == "litter":
        temporary = out.with_suffix(f".{os.getpid()}")
        temporary.write_text("all of it")
        os.replace(temporary, out)
"""


@pytest.mark.parametrize(
    ("words", "again", "changes", "faults"),
    [
        ("careful OUT/a", "", 7, {}),
        ("half OUT/a", "", 2, {2: "rerun: a differ or are left over"}),
        ("half OUT/a", "--again", 2, {}),
        ("litter OUT/a", "", 2, {2: "rerun: a.[0-9]+ differ or are left over"}),
    ],
)
def test_kills_at_every_change(tmp_path, monkeypatch, words, again, changes, faults):
    (tmp_path / "commands.py").write_text(COMMANDS)
    monkeypatch.syspath_prepend(tmp_path)
    command = Command("commands", words, again)
    counted, _ = reliability.kills(command, tmp_path / "work/out", random_kills=1)
    assert counted.number == changes and len(counted.faults) == len(faults)
    for fault, (number, expected) in zip(counted.faults, faults.items(), strict=True):
        assert re.match(f"change {number}: {expected}", fault), fault


def test_a_command_that_it_does_not_have_is_refused():
    with pytest.raises(InputError, match="--only: no command 'trian'; .*train"):
        reliability.main(["--only", "embed", "trian"])


@pytest.mark.parametrize(
    ("status", "printed", "fault"),
    [
        (0, "klaar\n", ""),
        (2, "error: a: no such file\n", ""),
        (-9, "", ""),
        (2, "error: a\nerror: b\n", "exit status 2 with 2 lines of error"),
        (2, "", "exit status 2 with 0 lines of error"),
        (1, "Traceback (most recent call last):\n", "a traceback"),
        (-7, "", "exit status -7 with 0 lines of error"),  # SIGBUS
    ],
)
def test_how_a_command_may_end(status, printed, fault):
    assert reliability.fault_of(status, printed) == fault
