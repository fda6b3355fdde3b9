"""Parallel labs never share a port, a subnet or a name."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from lab.lab_ids import (
    FIRST_PORT,
    LAB_NUMBERS,
    PORT_ORDER,
    PORTS_PER_LAB,
    LabId,
    find_free_lab_id,
    is_free_port,
    list_taken_lab_ids,
)


def test_port_in_use_is_not_free() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        assert not is_free_port(listener.getsockname()[1])


def test_lab_id_with_a_port_in_use_is_skipped() -> None:
    first = find_free_lab_id([])
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", first.port("virt-api")))
        listener.listen()
        assert find_free_lab_id([]).number > first.number


def test_lab_id_of_another_lab_is_skipped_before_it_listens() -> None:
    first = find_free_lab_id([])
    assert find_free_lab_id([first.number]).number > first.number


def test_ports_of_lab_ids_are_unique_and_below_the_ephemeral_range() -> None:
    assert len(PORT_ORDER) <= PORTS_PER_LAB
    assert FIRST_PORT + PORTS_PER_LAB * (LAB_NUMBERS[-1] + 1) <= 30000
    ports = [LabId(number).port(program) for number in LAB_NUMBERS for program in PORT_ORDER]
    assert len(set(ports)) == len(ports)


def test_interface_names_fit_the_linux_limit() -> None:
    assert len(f"{LabId(LAB_NUMBERS[-1]).bridge}-node-1") <= 15


def test_taken_lab_ids_ignore_labs_being_deleted(tmp_path: Path) -> None:
    for name, text in {"a": json.dumps({"slot": 3}), "b": "", "c": "{}"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "lab.json").write_text(text)
    assert list_taken_lab_ids(tmp_path) == [3]
