"""A DoQ client (RFC 9250) for the tests: raw messages, so that answers can be compared octet for octet.

doq.py ask PORT HEX...    each query on a stream of one connection; prints the answers in hexadecimal, `closed CODE` at the end
doq.py stall PORT COUNT   COUNT clients, each on an address of its own, that begin a handshake and say no more; prints `ready`, then
                          waits for its input to end
"""

import asyncio
import socket
import ssl
import sys

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, StreamDataReceived


def configuration():
    return QuicConfiguration(is_client=True, alpn_protocols=["doq"], verify_mode=ssl.CERT_NONE, server_name="localhost")


class Client(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.streams = {}
        self.ended = asyncio.get_event_loop().create_future()

    def quic_event_received(self, event):
        if isinstance(event, StreamDataReceived) and event.stream_id in self.streams:
            data, done = self.streams[event.stream_id]
            data += event.data
            if event.end_stream and not done.done():
                done.set_result(bytes(data))
        if isinstance(event, ConnectionTerminated):
            for _, done in self.streams.values():
                if not done.done():
                    done.set_result(b"")
            if not self.ended.done():
                self.ended.set_result(event.error_code)

    async def ask(self, message):
        stream = self._quic.get_next_available_stream_id()
        done = asyncio.get_event_loop().create_future()
        self.streams[stream] = (bytearray(), done)
        self._quic.send_stream_data(stream, len(message).to_bytes(2, "big") + message, end_stream=True)
        self.transmit()
        answer = await asyncio.wait_for(done, 10)
        return answer


async def ask(port, messages):
    async with connect("127.0.0.1", port, configuration=configuration(), create_protocol=Client) as client:
        answers = await asyncio.gather(*(client.ask(message) for message in messages))
        for answer in answers:
            print(answer[2:].hex() if answer and int.from_bytes(answer[:2], "big") == len(answer) - 2 else "none", flush=True)
        if client.ended.done():
            print("closed", client.ended.result(), flush=True)


def stall(port, count):
    sockets = []
    for number in range(count):
        quic = QuicConnection(configuration=configuration())
        quic.connect(("127.0.0.1", port), now=0.0)
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.bind(("127.2.%d.%d" % (number // 250, number % 250 + 1), 0))
        for datagram, _ in quic.datagrams_to_send(now=0.0):
            one.sendto(datagram, ("127.0.0.1", port))
        sockets.append(one)
    print("ready", flush=True)
    sys.stdin.read()


if sys.argv[1] == "ask":
    asyncio.run(ask(int(sys.argv[2]), [bytes.fromhex(text) for text in sys.argv[3:]]))
else:
    stall(int(sys.argv[2]), int(sys.argv[3]))
