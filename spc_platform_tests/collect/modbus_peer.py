"""A Modbus server in a process of its own: ``python -m spc_platform_tests.collect.modbus_peer PORT``.

Devices 1 and 3. Device 1 has holding registers 0 to 19 (0: 7, 1: 65535, 2 and 3: 3.5 as float32 with swapped words,
4 and 5: -2 as int32, 6 to 8: "SN-42"), holding 40: 11 and a coil 5 that is set; nothing else.
"""

from __future__ import annotations

import asyncio
import struct
import sys

from pymodbus.server import StartAsyncTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

HIGH, LOW = struct.unpack(">2H", struct.pack(">f", 3.5))
MINUS_TWO = list(struct.unpack(">2H", struct.pack(">i", -2)))
SERIAL = list(struct.unpack(">3H", b"SN-42\0"))


def device(number: int) -> SimDevice:
    registers = [7, 65535, LOW, HIGH, *MINUS_TWO, *SERIAL, *[0] * 11]
    holding = [
        SimData(0, values=registers, datatype=DataType.REGISTERS),
        SimData(40, values=[11], datatype=DataType.REGISTERS),
    ]
    coils = [SimData(0, values=[*[False] * 5, True, *[False] * 10], datatype=DataType.BITS)]
    discrete = [SimData(0, values=[True] * 16, datatype=DataType.BITS)]
    inputs = [SimData(0, values=[21, 22], datatype=DataType.REGISTERS)]
    return SimDevice(number, simdata=(coils, discrete, holding, inputs))


async def main(port: int) -> None:
    await StartAsyncTcpServer([device(1), device(3)], address=("127.0.0.1", port), ignore_missing_devices=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
