"""The filters of HDF5 that we know, by number and by name. Only the standard library, for every reader."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from beamhub_reduction.bitshuffle import BITSHUFFLE, BITSHUFFLE_LZ4, BITSHUFFLE_PLAIN, BITSHUFFLE_ZSTD

GZIP, SHUFFLE, FLETCHER32 = 1, 2, 3
BLOSC, LZ4, ZSTD, BLOSC2 = 32001, 32004, 32015, 32026

Integrity = Literal["checksummed", "not verifiable"]


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter of a dataset's pipeline. Source: HDF5 H5Zpublic.h and the registered filter list."""

    number: int
    values: tuple[int, ...] = ()

    @property
    def codec(self) -> str:
        """Its name, as people call it."""
        if self.number == BITSHUFFLE:
            kind = self.values[4] if len(self.values) > 4 else BITSHUFFLE_PLAIN
            return _BITSHUFFLES.get(kind, f"bitshuffle {kind}")
        return _NAMES.get(self.number, f"filter {self.number}")

    @property
    def compresses(self) -> bool:
        """Whether it changes the number of bytes in a way that only its data tell."""
        return self.codec not in ("shuffle", "fletcher32", "bitshuffle")


_NAMES = {
    GZIP: "gzip", SHUFFLE: "shuffle", FLETCHER32: "fletcher32", BLOSC: "blosc", LZ4: "lz4", ZSTD: "zstd",
    BLOSC2: "blosc2", 4: "szip", 5: "nbit", 6: "scale-offset", 32000: "lzf",
}  # fmt: skip
_BITSHUFFLES = {
    BITSHUFFLE_PLAIN: "bitshuffle", BITSHUFFLE_LZ4: "bitshuffle-LZ4", BITSHUFFLE_ZSTD: "bitshuffle-zstd",
}  # fmt: skip
