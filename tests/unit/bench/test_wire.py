"""What the load generator writes and reads."""

import pytest

from bench.wire import TEXT, Frames, WireError, batch_body, frame, post, read_answer

ACCEPTED = b'HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{"orderId":"a"}'


def server_frame(payload: bytes) -> bytes:
    size = len(payload)
    if size <= 125:
        return bytes((0x81, size)) + payload
    if size < 1 << 16:
        return bytes((0x81, 126)) + size.to_bytes(2, "big") + payload
    return bytes((0x81, 127)) + size.to_bytes(8, "big") + payload


def test_an_answer_is_read_once_all_of_it_has_come_and_not_before() -> None:
    for size in range(len(ACCEPTED)):
        assert read_answer(ACCEPTED[:size]) is None
    read = read_answer(ACCEPTED + b"HTTP/1.1 202 the next one")
    assert read is not None
    answer, whole = read
    assert (answer.status, answer.body, whole) == (202, b'{"orderId":"a"}', len(ACCEPTED))


def test_an_answer_says_how_long_to_wait() -> None:
    read = read_answer(b"HTTP/1.1 503 Busy\r\nRetry-After: 2\r\ncontent-length: 0\r\n\r\n")
    assert read is not None
    assert read[0].retry_after_s == 2.0


@pytest.mark.parametrize("data", [b"SSH-2.0\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"])
def test_what_is_not_understood_is_an_error(data: bytes) -> None:
    with pytest.raises(WireError):
        read_answer(data)


@pytest.mark.parametrize("step", [1, 2, 3, 1_000])
def test_frames_of_all_lengths_are_taken_apart_however_they_come(step: int) -> None:
    payloads = [b"short", b"", b"x" * 126, b"y" * 5_000, b"z" * 70_000]
    stream = b"".join(map(server_frame, payloads))
    frames = Frames()
    seen = [each for at in range(0, len(stream), step) for each in frames.feed(stream[at : at + step])]
    assert seen == [(TEXT, payload) for payload in payloads]


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_a_clients_frame_is_masked_with_zeros_and_says_its_length(size: int) -> None:
    made = frame(b"a" * size)
    assert made[1] & 0x80
    unmasked = made[:1] + bytes((made[1] & 0x7F,)) + made[2 : len(made) - size - 4] + made[len(made) - size :]
    assert list(Frames().feed(unmasked)) == [(TEXT, b"a" * size)]


def test_a_batch_has_the_given_orders_in_turn() -> None:
    assert batch_body(["1", "2"], 3) == '{"orders":[1,2,1]}'


def test_a_request_says_the_length_of_its_body() -> None:
    assert post(80, "/path", '{"a":"ü"}').endswith(b'Content-Length: 10\r\n\r\n{"a":"\xc3\xbc"}')
