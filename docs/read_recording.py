#!/usr/bin/env python3
"""Read and verify one recording without this project's code: python3 read_recording.py KEY.pub.pem SESSION_DIRECTORY

Needs `pip install zstandard cbor2 cryptography`; the rest is the standard library. Prints the events; exit status 1 when anything is wrong."""
import base64, hashlib, io, json, pathlib, sys, uuid
import cbor2, zstandard
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils


def sha256(data):
    return hashlib.sha256(data).digest()


def unbase64(text):
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    check(base64.urlsafe_b64encode(data).decode().rstrip("=") == text, "not the base64url that was written")
    return data


def check(fits, what):
    if not fits:
        sys.exit(f"NOT VERIFIED: {what}")


def read_manifest(path, key):
    jws = json.loads(path.read_bytes())
    header, signature = json.loads(unbase64(jws["protected"])), unbase64(jws["signature"])
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    check(header == {"alg": "ES256", "kid": sha256(spki).hex()[:16], "typ": "countersign-manifest"}, f"{path}: header")
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        signed = f"{jws['protected']}.{jws['payload']}".encode()
        key.verify(utils.encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
    except Exception:
        check(False, f"{path}: signature")
    return json.loads(unbase64(jws["payload"]))


def items(data):
    """The CBOR sequence in all zstd frames: each item with its exact bytes."""
    plain = zstandard.ZstdDecompressor(max_window_size=1 << 23).stream_reader(data, read_across_frames=True).read()
    stream, at = io.BytesIO(plain), 0
    decoder = cbor2.CBORDecoder(stream, read_size=1)
    while at < len(plain):
        value = decoder.decode()
        yield value, plain[at : stream.tell()]
        at = stream.tell()


def main(key_file, directory):
    directory = pathlib.Path(directory)
    manifest = read_manifest(directory / "manifest.json", serialization.load_pem_public_key(pathlib.Path(key_file).read_bytes()))
    session, count = uuid.UUID(manifest["session"]), 0
    head = sha256(b"countersign recording v1\0" + session.bytes)
    check(sorted(p.name for p in directory.glob("*.rec")) == [f"{s['number']:08}.rec" for s in manifest["segments"]], "segments are missing or too many")
    for segment in manifest["segments"]:
        path = directory / f"{segment['number']:08}.rec"
        data = path.read_bytes()
        check(sha256(data).hex() == segment["sha256"], f"{path}: not the bytes in the manifest")
        for value, exact in list(items(data))[1:-1]:  # without header and signature
            check(value[0] == count and value[2] == head, f"{path}: event {value[0]} does not continue the chain")
            print(json.dumps({"number": value[0], "time_us": value[1], "kind": value[3], **value[4]}, default=lambda b: b.decode("utf-8", "backslashreplace")))
            head, count = sha256(exact), count + 1
    check(count == manifest["events"] and head.hex() == manifest["head"], "the chain does not end where the manifest says")
    print(f"verified: {count} events of session {session}, sealed {manifest['seal']}", file=sys.stderr)


if __name__ == "__main__":
    check(len(sys.argv) == 3, __doc__)
    main(*sys.argv[1:])
