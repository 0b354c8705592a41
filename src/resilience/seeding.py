"""Seeds that follow from the identity of an artifact, never from a global state."""

from __future__ import annotations

import hashlib

import numpy as np


def seed_of(*identity: object) -> int:
    """A 63-bit seed from the parts of an identity, such as ``("digits", "fc2", "svi", 0)``.

    The same identity gives the same seed on every machine; two identities give unrelated seeds.
    """
    text = "\x1f".join(str(part) for part in identity)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator_of(*identity: object) -> np.random.Generator:
    """A NumPy generator seeded by an identity."""
    return np.random.default_rng(seed_of(*identity))
