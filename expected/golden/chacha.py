"""The project's random numbers, written a second time: ChaCha20 with a 64-bit
counter and a 64-bit stream id, and the Box-Muller transform on 53-bit uniforms.

Key: seed (8 bytes, little-endian), one byte for the purpose (0 rotation,
1 permutation, 2 gaussian, 4 fast rotation), zeros.
"""
import numpy as np
import scipy.linalg

ROUNDS = [(0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
          (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)]


def rotate(x, bits):
    return (x << np.uint32(bits)) | (x >> np.uint32(32 - bits))


def words(seed, purpose, stream, count):
    """The first `count` 32-bit words of a stream."""
    blocks = -(-count // 16)
    key = np.frombuffer(seed.to_bytes(8, "little") + bytes([purpose]) + bytes(23), np.uint32)
    state = np.zeros((16, blocks), np.uint32)
    state[:4] = np.frombuffer(b"expand 32-byte k", np.uint32)[:, None]
    state[4:12] = key[:, None]
    counter = np.arange(blocks, dtype=np.uint64)
    state[12], state[13] = counter.astype(np.uint32), (counter >> np.uint64(32)).astype(np.uint32)
    state[14], state[15] = stream & 0xFFFFFFFF, stream >> 32
    x = state.copy()
    for _ in range(10):
        for a, b, c, d in ROUNDS:
            x[a] += x[b]; x[d] = rotate(x[d] ^ x[a], 16)
            x[c] += x[d]; x[b] = rotate(x[b] ^ x[c], 12)
            x[a] += x[b]; x[d] = rotate(x[d] ^ x[a], 8)
            x[c] += x[d]; x[b] = rotate(x[b] ^ x[c], 7)
    return (x + state).T.reshape(-1)[:count]


def normals(seed, purpose, stream, count):
    """Standard normal numbers in f32."""
    pairs = -(-count // 2)
    w = words(seed, purpose, stream, 4 * pairs).astype(np.uint64)
    bits = (w[0::2] | (w[1::2] << np.uint64(32))) >> np.uint64(11)
    first, second = bits[0::2].astype(np.float64), bits[1::2].astype(np.float64)
    radius = np.sqrt(-2 * np.log((first + 1) * 2.0 ** -53))
    angle = 2 * np.pi * (second * 2.0 ** -53)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).reshape(-1)[:count].astype(np.float32)


def rotation(seed, draw, partner, layer, d):
    """Rows of unit norm for one layer of one partner in one draw, [d, d] in f32."""
    r = normals(seed, 0, draw << 32 | partner << 16 | layer, d * d).reshape(d, d)
    norms = np.sqrt((r.astype(np.float64) ** 2).sum(1, keepdims=True))
    return (r / norms).astype(np.float32)


def fast_rotation(seed, draw, partner, layer, d):
    """The same by four rounds of random signs and a Hadamard transform, [d, d] in f64; d is a power
    of two."""
    hadamard, r = scipy.linalg.hadamard(d) / np.sqrt(d), np.eye(d)
    for part in 1, 4, 7, 10:
        signs = np.sign(normals(seed, 4, draw << 32 | partner << 16 | layer ^ part << 56, d))
        r = hadamard @ (signs[:, None] * r)
    return r
