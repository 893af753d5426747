"""Write UDP datagrams to a capture file that Wireshark's tools read."""

import struct
from collections.abc import Sequence
from pathlib import Path

_LINKTYPE_RAW = 101  # packets begin with the IP header
_CLIENT, _DEVICE = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])
_CLIENT_PORT = 40000
_UDP = 17


def write_capture(path: Path, datagrams: Sequence[tuple[bool, bytes]], *, device_port: int) -> None:
    """Write a capture of one client. Each datagram comes with whether it goes to the device."""
    packets = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, _LINKTYPE_RAW)]
    for number, (is_to_device, data) in enumerate(datagrams):
        ends = (_CLIENT, _DEVICE), (_CLIENT_PORT, device_port)
        addresses, ports = ends if is_to_device else (ends[0][::-1], ends[1][::-1])
        udp = struct.pack("!HHHH", *ports, 8 + len(data), 0) + data
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), number, 0, 255, _UDP, 0)
        packet = head + b"".join(addresses) + udp
        packets += [struct.pack("<IIII", 1, number * 1000, len(packet), len(packet)), packet]
    path.write_bytes(b"".join(packets))
