"""Frames of several threads: whole, in the order of each, and one system call for what comes at once."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from koma.port.codec import decode_node, encode
from koma.port.frames import FrameBuffer, frame
from koma.port.limits import PROTOCOL_VERSION
from koma.port.messages import Failed, Hello, Load, Ping
from koma.port.node import Node
from koma.port.pipes import Pipes
from koma.port.process import EX_SOFTWARE

THREADS, EACH = 6, 400


@pytest.fixture
def ends() -> Iterator[tuple[int, Pipes]]:
    read_fd, write_fd = os.pipe()
    yield read_fd, Pipes(os.open(os.devnull, os.O_RDONLY), write_fd)
    os.close(read_fd)
    os.close(write_fd)


def test_what_is_written_together_is_one_write(
    ends: tuple[int, Pipes], monkeypatch: pytest.MonkeyPatch
) -> None:
    read_fd, pipes = ends
    writes: list[int] = []
    write = os.write

    def counted(fd: int, data: bytes) -> int:
        writes.append(len(data))
        return write(fd, data)

    monkeypatch.setattr(os, "write", counted)
    with pipes.together():
        for number in range(5):
            pipes.write(bytes([number]))
        assert writes == []
    assert writes == [5]
    assert os.read(read_fd, 100) == bytes(range(5))


def test_another_thread_takes_along_in_order_what_waits(ends: tuple[int, Pipes]) -> None:
    read_fd, pipes = ends
    with pipes.together():
        pipes.write(b"first ")
        other = threading.Thread(target=pipes.write, args=(b"second ",))
        other.start()
        other.join()
        assert os.read(read_fd, 100) == b"first second "
        pipes.write(b"third")
    assert os.read(read_fd, 100) == b"third"


def test_frames_of_many_threads_arrive_whole_and_in_the_order_of_each(ends: tuple[int, Pipes]) -> None:
    read_fd, pipes = ends

    def send(thread: int) -> None:
        for number in range(EACH):
            pipes.write(frame(bytes([thread]) * 50 + number.to_bytes(2, "big")))

    threads = [threading.Thread(target=send, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    seen: dict[int, list[int]] = {thread: [] for thread in range(THREADS)}
    frames = FrameBuffer()
    while sum(map(len, seen.values())) < THREADS * EACH:
        frames.feed(os.read(read_fd, 4096))
        while (body := frames.next_frame()) is not None:
            assert len(set(body[:50])) == 1
            seen[body[0]].append(int.from_bytes(body[50:], "big"))
    assert all(numbers == list(range(EACH)) for numbers in seen.values())
    for thread in threads:
        thread.join()


def test_a_node_ends_when_its_last_message_is_written_whichever_thread_writes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (commands, gateway), (answers, node_end) = os.pipe(), os.pipe()
    writing, go_on, write = threading.Event(), threading.Event(), os.write

    def held_up(fd: int, data: bytes) -> int:
        if threading.current_thread().name == "reader":
            writing.set()
            assert go_on.wait(20)
        return write(fd, data)

    code: list[int] = []
    node = Node(Pipes(commands, node_end))
    main = threading.Thread(target=lambda: code.append(node.run()))
    monkeypatch.setattr(os, "write", held_up)
    main.start()
    load = Load("load", "no family", "no checkpoint", "cpu", "auto", 1, {})
    write(
        gateway, b"".join(frame(encode(message)) for message in (Hello(PROTOCOL_VERSION, "n"), Ping(1), load))
    )
    assert writing.wait(20)
    main.join(0.5)
    assert main.is_alive(), "the failure to load is still to be written"
    go_on.set()
    main.join(20)
    assert code == [EX_SOFTWARE]
    frames = FrameBuffer()
    frames.feed(os.read(answers, 1 << 16))
    told = []
    while (body := frames.next_frame()) is not None:
        told.append(decode_node(body))
    assert [(message.id, message.scope) for message in told if isinstance(message, Failed)] == [
        ("load", "node")
    ]
    for fd in (gateway, answers, node_end):
        os.close(fd)
